package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/util/retry"
)

// stormReport is the report of storm.
type stormReport struct {
	// Requested counts the creates, one pod each. Requested = Created + Failed.
	Requested int `json:"requested"`
	// Created counts the creates that were acknowledged with success.
	Created int `json:"created"`
	// Failed counts the other creates, by final answer: Refused + AlreadyExists + Ambiguous +
	// NoAnswer.
	Failed int `json:"failed"`
	// FailedBy counts the failed creates by reason/code/message, with names and numbers masked.
	FailedBy map[string]int `json:"failedBy"`
	// Refused ended in a 4xx: nothing may be stored.
	Refused int `json:"refused"`
	// AlreadyExists ended in that answer, although names are unique and every answer before it was
	// clear. So something created the pod twice.
	AlreadyExists int `json:"alreadyExists"`
	// Ambiguous ended in a 5xx, or met one on the way and was refused after it: the pod may be
	// present.
	Ambiguous int `json:"ambiguous"`
	// NoAnswer ended in a transport error: the pod may be present.
	NoAnswer int `json:"noAnswer"`

	// Conflicts counts the answers "409 Conflict on resourcequotas" that reached the client. It
	// counts answers, not pods.
	Conflicts int `json:"conflicts"`
	// Attempts counts the POSTs sent, including those that client-go resends by itself (429 and 5xx
	// with Retry-After).
	Attempts int `json:"attempts"`
	// Answers counts the answers to these POSTs by "protocol status", for example "HTTP/2.0 201".
	Answers map[string]int `json:"answers"`
	// Connections counts the connections dialled during the run, for creates and deletes.
	Connections int `json:"connections"`

	// Seconds is the time from the first POST to the last final answer.
	Seconds float64 `json:"seconds"`
	// CreatedPerSecond is Created / Seconds.
	CreatedPerSecond float64 `json:"createdPerSecond"`
	// P50Ms, P99Ms and MaxMs are the times of creates, from the first POST to the final answer,
	// retries included.
	P50Ms float64 `json:"p50Ms"`
	P99Ms float64 `json:"p99Ms"`
	MaxMs float64 `json:"maxMs"`

	// Deleted counts the acknowledged deletes.
	Deleted int `json:"deleted"`
	// DeleteFailedBy counts the other deletes, as FailedBy does. Their pods may be present.
	DeleteFailedBy map[string]int `json:"deleteFailedBy"`

	Judgement judgement `json:"judgement"`
}

// storm has the settings of a run and what its parts share.
type storm struct {
	target
	judgeKubeconfig string
	namespace       string
	prefix          string
	pods            int
	inFlight        int
	retry           string
	deletes         float64
	timeout         time.Duration

	wire wire
}

func stormCommand(flags *flag.FlagSet) runner {
	s := &storm{wire: wire{answers: map[string]int{}}}
	s.register(flags)
	flags.StringVar(&s.judgeKubeconfig, "judge-kubeconfig", "", "`file` whose server lists the pods afterwards (default: -kubeconfig)")
	flags.StringVar(&s.namespace, "namespace", "storm", "`namespace`, which must exist")
	flags.StringVar(&s.prefix, "name-prefix", "storm", "`prefix` of the pods' names, which no pod of the namespace may have yet")
	flags.IntVar(&s.pods, "pods", 1000, "`number` of pods to create")
	flags.IntVar(&s.inFlight, "in-flight", 50, "`number` of creates at the same time")
	flags.StringVar(&s.retry, "retry", "none", "on 409 Conflict: none, DefaultRetry or DefaultBackoff (client-go's), or jitter (10 ms ×2, full jitter, until created)")
	flags.Float64Var(&s.deletes, "deletes", 0, "delete created pods meanwhile, at up to this `rate` a second")
	flags.DurationVar(&s.timeout, "timeout", 5*time.Minute, "give up after this `time`")
	return func(ctx context.Context) (any, error) { return s.run(ctx) }
}

// outcome is what the client knows of one pod.
type outcome struct {
	server int // The index of the client-set that created it.
	uid    types.UID
	err    error // The final answer unless created.
	// doubtful is set when any POST of the pod got no answer, or an answer after which the pod may
	// be stored.
	doubtful bool
	took     time.Duration
	deleted  fate
}

// fate is the result of a pod's deletion.
type fate int

const (
	kept fate = iota
	deleted
	perhapsDeleted
)

func (s *storm) run(ctx context.Context) (*stormReport, error) {
	if s.pods < 1 || s.inFlight < 1 {
		return nil, errors.New("-pods and -in-flight must be at least 1")
	}
	if _, known := retries[s.retry]; !known {
		return nil, fmt.Errorf("-retry is %q, want none, DefaultRetry, DefaultBackoff or jitter", s.retry)
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	clients, err := s.connect(s.wire.observe)
	if err != nil {
		return nil, err
	}
	judge := target{kubeconfig: s.judgeKubeconfig, encoding: "protobuf", http: 2, perServer: 1}
	if judge.kubeconfig == "" {
		judge.kubeconfig = s.kubeconfig
	}
	witness, err := judge.connectOne()
	if err != nil {
		return nil, err
	}
	// Send one request before the storm. Without a connection, Go dials one for each waiting
	// request and closes all but one of them (HTTP/2).
	for _, client := range clients {
		if _, err := client.CoreV1().Namespaces().Get(ctx, s.namespace, metav1.GetOptions{}); err != nil {
			return nil, err
		}
	}
	progress("creating %d pods, %d in flight, over %d client-sets", s.pods, s.inFlight, len(clients))
	outcomes := make([]outcome, s.pods)
	created := make(chan int, s.pods) // Sends to it never block.
	done := make(chan struct{})
	deletions := make(chan map[string]int)
	go func() { deletions <- s.delete(ctx, clients, outcomes, created, done) }()
	started := time.Now()
	conflicts := s.create(ctx, clients, outcomes, created)
	took := time.Since(started)
	close(done)
	failedDeletes := <-deletions

	report := s.report(outcomes, took)
	report.Conflicts = conflicts
	report.DeleteFailedBy = failedDeletes
	progress("%d created, %d failed, %d conflicts, %.1f s; judging", report.Created, report.Failed, conflicts, report.Seconds)
	if err := context.Cause(ctx); err != nil {
		return nil, fmt.Errorf("stopped after %v with %d of %d created: %w", took, report.Created, s.pods, err)
	}
	report.Judgement, err = judged(ctx, witness, s.namespace, s.name, outcomes)
	return report, err
}

// create creates all pods and returns how many conflicts the client saw. It sends the indexes of
// created pods to created.
func (s *storm) create(ctx context.Context, clients []*kubernetes.Clientset, outcomes []outcome, created chan<- int) int {
	var next, conflicts atomic.Int64
	var workers sync.WaitGroup
	for range min(s.inFlight, s.pods) {
		workers.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= s.pods {
					return
				}
				pod := &outcomes[i]
				pod.server = i % len(clients)
				conflicts.Add(s.createOne(ctx, clients[pod.server], i, pod))
				if pod.err == nil {
					created <- i
				}
			}
		})
	}
	workers.Wait()
	return int(conflicts.Load())
}

func (s *storm) createOne(ctx context.Context, client *kubernetes.Clientset, i int, pod *outcome) (conflicts int64) {
	ctx = context.WithValue(ctx, tracedPod{}, pod)
	started := time.Now()
	pod.err = retries[s.retry](ctx, func() error {
		stored, err := client.CoreV1().Pods(s.namespace).Create(ctx, smallPod(s.name(i)), metav1.CreateOptions{})
		if err == nil {
			pod.uid = stored.UID
		}
		if isQuotaConflict(err) {
			conflicts++
		}
		return err
	})
	pod.took = time.Since(started)
	return conflicts
}

func (s *storm) name(i int) string { return fmt.Sprintf("%s-%05d", s.prefix, i) }

// smallPod returns a pod that stays Pending, because nothing schedules it. Quotas count its
// requests.
func smallPod(name string) *corev1.Pod {
	no := false
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.PodSpec{
			AutomountServiceAccountToken: &no,
			Containers: []corev1.Container{{
				Name:  "main",
				Image: "registry.k8s.io/pause:3.10",
				Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{
					corev1.ResourceCPU:    resource.MustParse("1m"),
					corev1.ResourceMemory: resource.MustParse("1Mi"),
				}},
			}},
		},
	}
}

// retries are the ways to handle a conflict, by their name in -retry.
var retries = map[string]func(ctx context.Context, create func() error) error{
	"none": func(_ context.Context, create func() error) error { return create() },
	"DefaultRetry": func(_ context.Context, create func() error) error {
		return retry.OnError(retry.DefaultRetry, apierrors.IsConflict, create)
	},
	"DefaultBackoff": func(_ context.Context, create func() error) error {
		return retry.OnError(retry.DefaultBackoff, apierrors.IsConflict, create)
	},
	"jitter": untilCreated,
}

// untilCreated is the best that a client can do alone: an exponential backoff from 10 ms with full
// jitter, limited only by the run.
func untilCreated(ctx context.Context, create func() error) error {
	const longest = 2 * time.Second
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, longest) {
		err := create()
		if !apierrors.IsConflict(err) || ctx.Err() != nil {
			return err
		}
		sleep(ctx, rand.N(pause))
	}
}

// delete deletes pods in the order of their creation, over the same servers, until the creates are
// done. It returns the failures.
func (s *storm) delete(ctx context.Context, clients []*kubernetes.Clientset, outcomes []outcome, created <-chan int, done <-chan struct{}) map[string]int {
	failed := map[string]int{}
	if s.deletes <= 0 {
		return failed
	}
	var lock sync.Mutex
	var running sync.WaitGroup
	defer running.Wait()
	pace := time.NewTicker(time.Duration(float64(time.Second) / s.deletes))
	defer pace.Stop()
	for {
		select {
		case <-done:
			return failed
		case <-pace.C:
		}
		select {
		case i := <-created:
			running.Go(func() {
				pod := &outcomes[i]
				now := int64(0)
				err := clients[pod.server].CoreV1().Pods(s.namespace).Delete(ctx, s.name(i), metav1.DeleteOptions{GracePeriodSeconds: &now})
				pod.deleted = deleted
				if err != nil {
					pod.deleted = perhapsDeleted
					lock.Lock()
					defer lock.Unlock()
					failed[reasonOf(err)]++
				}
			})
		default:
		}
	}
}

func (s *storm) report(outcomes []outcome, took time.Duration) *stormReport {
	r := &stormReport{
		Requested:   len(outcomes),
		FailedBy:    map[string]int{},
		Attempts:    s.wire.posts,
		Answers:     s.wire.answers,
		Connections: int(s.connections.Load()),
		Seconds:     took.Seconds(),
	}
	var times []time.Duration
	for _, pod := range outcomes {
		if pod.deleted == deleted {
			r.Deleted++
		}
		if pod.err == nil || isAnswer(pod.err) {
			times = append(times, pod.took)
		}
		if pod.err == nil {
			r.Created++
			continue
		}
		r.Failed++
		r.FailedBy[reasonOf(pod.err)]++
		switch {
		case !isAnswer(pod.err):
			r.NoAnswer++
		case pod.doubtful:
			r.Ambiguous++
		case apierrors.IsAlreadyExists(pod.err):
			r.AlreadyExists++
		default:
			r.Refused++
		}
	}
	r.CreatedPerSecond = float64(r.Created) / r.Seconds
	slices.Sort(times)
	r.P50Ms, r.P99Ms, r.MaxMs = quantile(times, 0.5), quantile(times, 0.99), quantile(times, 1)
	return r
}

// quantile returns the quantile of sorted times by nearest rank, in milliseconds. It is 0 if there
// are none.
func quantile(sorted []time.Duration, q float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	return float64(sorted[int(q*float64(len(sorted)-1)+0.5)].Microseconds()) / 1000
}

// tracedPod is the context key of the *outcome that a POST belongs to. It needs no lock, because
// the POSTs of one pod are sequential.
type tracedPod struct{}

// wire counts the POSTs of pods below client-go. client-go resends some of them by itself and shows
// only the last answer.
type wire struct {
	lock    sync.Mutex
	posts   int
	answers map[string]int
}

func (w *wire) observe(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(request *http.Request) (*http.Response, error) {
		response, err := next.RoundTrip(request)
		pod, ok := request.Context().Value(tracedPod{}).(*outcome)
		if !ok {
			return response, err
		}
		pod.doubtful = pod.doubtful || err != nil || mayHaveStored(response.StatusCode)
		w.lock.Lock()
		defer w.lock.Unlock()
		w.posts++
		if err == nil {
			w.answers[fmt.Sprintf("%s %d", response.Proto, response.StatusCode)]++
		}
		return response, err
	})
}
