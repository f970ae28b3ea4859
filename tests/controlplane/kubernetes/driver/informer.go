package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/features"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

// informerReport is the report of informer.
type informerReport struct {
	// OK is set when all runs are OK.
	OK bool `json:"ok"`
	// Runs are list+watch and streaming list, each in both encodings.
	Runs []informerRun `json:"runs"`
}

// informerRun is the life of one informer, which spans several watches.
type informerRun struct {
	// Mode is "list+watch" or "streaming list".
	Mode     string `json:"mode"`
	Encoding string `json:"encoding"`
	// OK is set when every event arrived once and in order, a bookmark arrived, and the mode was
	// used.
	OK bool `json:"ok"`
	// Expected counts the events of the writes that were made while the informer watched. Received
	// counts those that the watches delivered.
	Expected int `json:"expected"`
	Received int `json:"received"`
	// Missing, Duplicated and OutOfOrder must be 0. An event is out of order if its resourceVersion
	// is not above the previous one.
	Missing    int `json:"missing"`
	Duplicated int `json:"duplicated"`
	// Unexplained counts the events without a write. It must be 0 too.
	Unexplained int `json:"unexplained"`
	OutOfOrder  int `json:"outOfOrder"`
	// WrongAtHandler counts the pods whose handler calls were not exactly add, update, update
	// (being deleted), delete.
	WrongAtHandler int `json:"wrongAtHandler"`
	// Bookmarks counts the bookmarks received, without the one that ends the initial events.
	Bookmarks int `json:"bookmarks"`
	// InitialEventsEnd counts the bookmarks that end initial events. It is 0 with list+watch.
	InitialEventsEnd int `json:"initialEventsEnd"`
	// Lists, Watches and StreamingLists (watches with sendInitialEvents=true) count the requests
	// sent.
	Lists          int `json:"lists"`
	Watches        int `json:"watches"`
	StreamingLists int `json:"streamingLists"`
	// Problem says why the run did not reach its end. It is empty if it did.
	Problem string `json:"problem,omitempty"`
}

type informer struct {
	target
	directKubeconfig string
	namespace        string
	pods             int
	watchSeconds     int64
	timeout          time.Duration
}

func informerCommand(flags *flag.FlagSet) runner {
	i := &informer{}
	i.register(flags)
	flags.StringVar(&i.directKubeconfig, "direct-kubeconfig", "", "`file` for the writes that the informer is to see (required)")
	flags.StringVar(&i.namespace, "namespace", "informer", "`namespace`, which must exist")
	flags.IntVar(&i.pods, "pods", 50, "`number` of pods; each is created, changed and deleted, a tenth before the informer starts")
	flags.Int64Var(&i.watchSeconds, "watch-seconds", 8, "`length` of each watch; the apiserver sends a bookmark two seconds before its end")
	flags.DurationVar(&i.timeout, "timeout", 2*time.Minute, "give up a run after this `time`")
	return func(ctx context.Context) (any, error) { return i.run(ctx) }
}

func (i *informer) run(ctx context.Context) (*informerReport, error) {
	if i.directKubeconfig == "" {
		return nil, errors.New("-direct-kubeconfig is required")
	}
	direct := target{kubeconfig: i.directKubeconfig, encoding: "protobuf", http: 2, perServer: 1}
	writer, err := direct.connectOne()
	if err != nil {
		return nil, err
	}
	gates, ok := features.FeatureGates().(interface {
		Set(features.Feature, bool) error
	})
	if !ok {
		return nil, errors.New("client-go's feature gates cannot be set")
	}
	report := &informerReport{OK: true}
	for _, streaming := range []bool{false, true} {
		if err := gates.Set(features.WatchListClient, streaming); err != nil {
			return nil, err
		}
		for _, encoding := range []string{"json", "protobuf"} {
			i.encoding = encoding
			run, err := i.runOne(ctx, writer, streaming)
			if err != nil {
				return nil, err
			}
			progress("%s, %s: ok %v", run.Mode, run.Encoding, run.OK)
			report.OK = report.OK && run.OK
			report.Runs = append(report.Runs, *run)
		}
	}
	return report, nil
}

func (i *informer) runOne(ctx context.Context, writer *kubernetes.Clientset, streaming bool) (*informerRun, error) {
	ctx, cancel := context.WithTimeout(ctx, i.timeout)
	defer cancel()
	run := &informerRun{Mode: "list+watch", Encoding: i.encoding}
	if streaming {
		run.Mode = "streaming list"
	}
	seen := &sightings{changed: make(chan struct{}, 1), run: run, early: map[podEvent]bool{}, handled: map[string]string{}}
	client, err := i.connectOne(seen.observe)
	if err != nil {
		return nil, err
	}
	// A label of its own excludes the pods of other runs.
	script := &script{client: writer, namespace: i.namespace, label: fmt.Sprintf("run-%d", time.Now().UnixNano())}
	defer script.cleanUp(context.WithoutCancel(ctx))
	early := max(1, i.pods/10)
	if err := script.create(ctx, 0, early); err != nil {
		return nil, err
	}
	// These come with the list. If the list came from a cache that did not have them yet, they come
	// with the watch.
	for _, write := range script.writes {
		seen.early[write] = true
	}
	script.writes = nil

	var running sync.WaitGroup
	defer running.Wait()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	shared := cache.NewSharedIndexInformer(i.source(client, script.label, seen), &corev1.Pod{}, 0, nil)
	if _, err := shared.AddEventHandler(seen.handlers()); err != nil {
		return nil, err
	}
	running.Go(func() { shared.RunWithContext(ctx) })

	err = i.play(ctx, script, seen, early, shared.HasSynced)
	if err != nil {
		run.Problem = err.Error()
	}
	seen.lock.Lock()
	defer seen.lock.Unlock()
	script.judge(seen, i.pods)
	modeUsed := run.Lists == 1 && run.StreamingLists == 0 && run.InitialEventsEnd == 0
	if streaming {
		modeUsed = run.Lists == 0 && run.StreamingLists == 1 && run.InitialEventsEnd == 1
	}
	run.OK = err == nil && modeUsed && run.Missing+run.Duplicated+run.Unexplained+run.OutOfOrder+run.WrongAtHandler == 0 && run.Bookmarks > 0
	return run, nil
}

// play makes the writes, some during the first watch and some during a later one. So an event that
// is lost or repeated between two watches is found.
func (i *informer) play(ctx context.Context, script *script, seen *sightings, early int, synced func() bool) error {
	if !cache.WaitForCacheSync(ctx.Done(), synced) {
		return errors.New("the informer did not sync")
	}
	if err := script.create(ctx, early, i.pods); err != nil {
		return err
	}
	watches := func() int { return seen.run.Watches + seen.run.StreamingLists }
	if err := seen.wait(ctx, "a second watch", func() bool { return watches() > 1 }); err != nil {
		return err
	}
	if err := script.change(ctx); err != nil {
		return err
	}
	if err := script.remove(ctx); err != nil {
		return err
	}
	// A bookmark says that everything before it has been sent, duplicates included.
	err := seen.wait(ctx, "the events", func() bool { return len(seen.events) >= len(script.writes) })
	bookmarks := 0
	return errors.Join(err, seen.wait(ctx, "a bookmark after the events", func() bool {
		if bookmarks == 0 {
			bookmarks = seen.run.Bookmarks + 1
		}
		return seen.run.Bookmarks >= bookmarks
	}))
}

// source is the source of a generated pod informer, with short watches and a look at the raw
// events.
func (i *informer) source(client *kubernetes.Clientset, label string, seen *sightings) cache.ListerWatcher {
	pods := client.CoreV1().Pods(i.namespace)
	return cache.ToListWatcherWithWatchListSemantics(&cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			options.LabelSelector = "run=" + label
			return pods.List(ctx, options)
		},
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			options.LabelSelector = "run=" + label
			options.TimeoutSeconds = &i.watchSeconds
			initial := options.SendInitialEvents != nil && *options.SendInitialEvents
			events, err := pods.Watch(ctx, options)
			if err != nil {
				return nil, err
			}
			return watch.Filter(events, func(event watch.Event) (watch.Event, bool) {
				initial = seen.event(event, initial)
				return event, true
			}), nil
		},
	}, client)
}

// sightings is what the informer has seen.
type sightings struct {
	lock    sync.Mutex
	changed chan struct{}
	run     *informerRun
	// early has the writes that a watch may deliver once.
	early map[podEvent]bool
	// events has the events of the watches, without early ones, initial ones and bookmarks.
	events []podEvent
	// handled has the handler's calls by pod, such as "add update ".
	handled map[string]string
}

func (s *sightings) note(event func()) {
	s.lock.Lock()
	event()
	s.lock.Unlock()
	select {
	case s.changed <- struct{}{}:
	default: // One pending wake-up is enough.
	}
}

func (s *sightings) wait(ctx context.Context, what string, done func() bool) error {
	for {
		s.lock.Lock()
		ok := done()
		s.lock.Unlock()
		if ok {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w", what, ctx.Err())
		case <-s.changed:
		}
	}
}

// observe counts the requests.
func (s *sightings) observe(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(request *http.Request) (*http.Response, error) {
		query := request.URL.Query()
		s.note(func() {
			switch {
			case query.Get("sendInitialEvents") == "true":
				s.run.StreamingLists++
			case query.Get("watch") == "true":
				s.run.Watches++
			default:
				s.run.Lists++
			}
		})
		return next.RoundTrip(request)
	})
}

// event takes an event of a watch and reports whether initial events are still expected.
func (s *sightings) event(event watch.Event, initial bool) bool {
	pod, ok := event.Object.(*corev1.Pod)
	if !ok {
		return initial // An error, such as 410. The reflector handles it, and Lists shows it.
	}
	s.note(func() {
		switch {
		case event.Type == watch.Bookmark && pod.Annotations[metav1.InitialEventsAnnotationKey] == "true":
			s.run.InitialEventsEnd++
			initial = false
		case event.Type == watch.Bookmark:
			s.run.Bookmarks++
		case !initial:
			seen := podEvent{event.Type, pod.Name, pod.ResourceVersion, pod.DeletionTimestamp != nil}
			if s.early[seen] {
				delete(s.early, seen)
				return
			}
			s.events = append(s.events, seen)
		}
	})
	return initial
}

func (s *sightings) handlers() cache.ResourceEventHandlerFuncs {
	handle := func(what string, object any) {
		pod, ok := object.(*corev1.Pod)
		if !ok {
			return // A tombstone means that the deletion was missed, so it stays absent here.
		}
		s.note(func() { s.handled[pod.Name] += what + " " })
	}
	return cache.ResourceEventHandlerFuncs{
		AddFunc: func(object any) { handle("add", object) },
		UpdateFunc: func(before, object any) {
			// A new list repeats what is known. That is no event.
			if before.(*corev1.Pod).ResourceVersion != object.(*corev1.Pod).ResourceVersion {
				handle("update", object)
			}
		},
		DeleteFunc: func(object any) { handle("delete", object) },
	}
}
