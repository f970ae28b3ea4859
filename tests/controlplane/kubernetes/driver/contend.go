package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
)

// contendReport is what contend prints once it is stopped.
type contendReport struct {
	// Writes of quotas acknowledged, by all status writers.
	Writes int `json:"writes"`
	// Creates of pods acknowledged, by all creators; each pod is deleted at once.
	Creates int `json:"creates"`
	// Conflicts counts the creators' answers "409 Conflict on resourcequotas".
	Conflicts int `json:"conflicts"`
	// FailedBy counts the other failures by reason/code/message, names and numbers masked.
	FailedBy map[string]int `json:"failedBy"`
	// Seconds from start to stop.
	Seconds float64 `json:"seconds"`
}

type contention struct {
	target
	namespace string
	writers   int
	creators  int
	duration  time.Duration

	lock   sync.Mutex
	report contendReport
}

func contendCommand(flags *flag.FlagSet) runner {
	c := &contention{report: contendReport{FailedBy: map[string]int{}}}
	c.register(flags)
	flags.StringVar(&c.namespace, "namespace", "storm", "`namespace`, which must have a quota")
	flags.IntVar(&c.writers, "writers", 8, "`number` of status writers")
	flags.IntVar(&c.creators, "creators", 0, "`number` of creators, each with one pod at a time")
	flags.DurationVar(&c.duration, "for", 0, "stop after this `time` (default: at SIGTERM)")
	return func(ctx context.Context) (any, error) { return c.run(ctx) }
}

func (c *contention) run(ctx context.Context) (*contendReport, error) {
	if c.writers+c.creators < 1 {
		return nil, errors.New("neither -writers nor -creators")
	}
	clients, err := c.connect()
	if err != nil {
		return nil, err
	}
	if c.duration > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.duration)
		defer cancel()
	}
	list, err := clients[0].CoreV1().ResourceQuotas(c.namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	if len(list.Items) == 0 {
		return nil, fmt.Errorf("no quota in namespace %s", c.namespace)
	}
	started := time.Now()
	var working, begun sync.WaitGroup
	for w := range c.writers {
		begun.Add(1)
		working.Go(func() {
			c.repeat(ctx, begun.Done, func(n int) error {
				return c.write(ctx, clients[w%len(clients)], list.Items[(w+n)%len(list.Items)].Name, w, n)
			})
		})
	}
	for w := range c.creators {
		begun.Add(1)
		working.Go(func() {
			name := fmt.Sprintf("contend-%d-%d", started.UnixMilli(), w)
			c.repeat(ctx, begun.Done, func(int) error { return c.create(ctx, clients[w%len(clients)], name) })
		})
	}
	go func() {
		begun.Wait()
		progress("contending") // Callers wait for this line.
	}()
	working.Wait()
	c.report.Seconds = time.Since(started).Seconds()
	return &c.report, nil
}

// repeat does one step after the other until the context ends, and tells when the first has gone well.
func (c *contention) repeat(ctx context.Context, first func(), step func(n int) error) {
	once := sync.OnceFunc(first)
	defer once()
	for n := 0; ctx.Err() == nil; n++ {
		err := step(n)
		if err == nil {
			once()
			continue
		}
		if ctx.Err() != nil {
			return // The failure is our own stop.
		}
		c.count(func(r *contendReport) {
			if isQuotaConflict(err) {
				r.Conflicts++
			} else {
				r.FailedBy[reasonOf(err)]++
			}
		})
		if !isAnswer(err) {
			time.Sleep(100 * time.Millisecond) // The server is away: do not spin.
		}
	}
}

// write gives the quota a new resourceVersion and nothing else, so that an apiserver that is charging it loses its compare-and-swap. A patch
// of an annotation never puts back a stale status.used, as an update could, and needs no read before it. The value must change each time:
// the apiserver does not store an update that changes nothing.
func (c *contention) write(ctx context.Context, client *kubernetes.Clientset, quota string, writer, n int) error {
	patch := fmt.Appendf(nil, `{"metadata":{"annotations":{"contend":"%d-%d"}}}`, writer, n)
	_, err := client.CoreV1().ResourceQuotas(c.namespace).Patch(ctx, quota, types.MergePatchType, patch, metav1.PatchOptions{}, "status")
	if err == nil {
		c.count(func(r *contendReport) { r.Writes++ })
	}
	return err
}

// create charges the quota as any other client does, and deletes the pod at once, upon which the quota controller recounts.
func (c *contention) create(ctx context.Context, client *kubernetes.Clientset, name string) error {
	pods := client.CoreV1().Pods(c.namespace)
	if _, err := pods.Create(ctx, smallPod(name), metav1.CreateOptions{}); err != nil {
		return err
	}
	c.count(func(r *contendReport) { r.Creates++ })
	now := int64(0)
	// A pod that was created is deleted even when the stop comes in between.
	return pods.Delete(context.WithoutCancel(ctx), name, metav1.DeleteOptions{GracePeriodSeconds: &now})
}

func (c *contention) count(event func(*contendReport)) {
	c.lock.Lock()
	defer c.lock.Unlock()
	event(&c.report)
}
