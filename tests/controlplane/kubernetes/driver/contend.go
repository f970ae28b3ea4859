package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
)

// contendReport is what contend prints once it is stopped.
type contendReport struct {
	// EtcdWrites counts the quotas' new revisions written into etcd.
	EtcdWrites int `json:"etcdWrites"`
	// EtcdLost counts the writes that came too late because the quota had been charged in between: creates that made it.
	EtcdLost int `json:"etcdLost"`
	// Writes of quotas acknowledged by the apiservers, by all status writers.
	Writes int `json:"writes"`
	// Creates of pods acknowledged, by all creators; each pod is deleted at once.
	Creates int `json:"creates"`
	// Conflicts counts the creators' answers "409 Conflict on resourcequotas".
	Conflicts int `json:"conflicts"`
	// FailedBy counts the other failures by reason/code/message, names and numbers masked.
	FailedBy map[string]int `json:"failedBy"`
	// Seconds from start to stop, pauses included.
	Seconds float64 `json:"seconds"`
}

type contention struct {
	target
	namespace string
	etcd      string
	etcdRate  float64
	writers   int
	creators  int
	burst     time.Duration
	pause     time.Duration
	duration  time.Duration

	lock   sync.Mutex
	report contendReport
}

func contendCommand(flags *flag.FlagSet) runner {
	c := &contention{report: contendReport{FailedBy: map[string]int{}}}
	c.register(flags)
	flags.StringVar(&c.namespace, "namespace", "storm", "`namespace`, which must have a quota")
	flags.StringVar(&c.etcd, "etcd", "", "`URL` of etcd: write there, one writer per quota")
	flags.Float64Var(&c.etcdRate, "etcd-rate", 200, "with -etcd: writes a second and quota; 5 quotas with this `rate` refuse about nine creates of ten")
	flags.IntVar(&c.writers, "writers", 0, "`number` of status writers over the -servers: some creates conflict")
	flags.IntVar(&c.creators, "creators", 0, "`number` of creators over the -servers, each with one pod at a time: some creates conflict")
	flags.DurationVar(&c.burst, "burst", time.Second, "with -pause: contend for this `time`, …")
	flags.DurationVar(&c.pause, "pause", 0, "… pause for this `time`, and so on (default: no pauses)")
	flags.DurationVar(&c.duration, "for", 0, "stop after this `time` (default: at SIGTERM)")
	return func(ctx context.Context) (any, error) { return c.run(ctx) }
}

func (c *contention) run(ctx context.Context) (*contendReport, error) {
	clients, err := c.connect()
	if err != nil {
		return nil, err
	}
	list, err := clients[0].CoreV1().ResourceQuotas(c.namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	var quotas []string
	for _, quota := range list.Items {
		quotas = append(quotas, quota.Name)
	}
	if len(quotas) == 0 {
		return nil, fmt.Errorf("no quota in namespace %s", c.namespace)
	}
	started := time.Now()
	if c.duration > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.duration)
		defer cancel()
	}
	steps, closeEtcd, err := c.steps(ctx, clients, quotas)
	if err != nil {
		return nil, err
	}
	defer closeEtcd()
	var working, begun sync.WaitGroup
	begun.Add(len(steps))
	for _, step := range steps {
		working.Go(func() { c.repeat(ctx, started, begun.Done, step) })
	}
	go func() {
		begun.Wait()
		progress("contending") // Callers wait for this line.
	}()
	working.Wait()
	c.report.Seconds = time.Since(started).Seconds()
	return &c.report, nil
}

// step is one write of a writer or one pod of a creator; n counts them.
type step func(n int) error

func (c *contention) steps(ctx context.Context, clients []*kubernetes.Clientset, quotas []string) ([]step, func(), error) {
	var steps []step
	closeEtcd := func() {}
	if c.etcd != "" {
		if c.etcdRate <= 0 {
			return nil, nil, fmt.Errorf("-etcd-rate is %v, want more than 0", c.etcdRate)
		}
		etcd, err := clientv3.New(clientv3.Config{Endpoints: []string{c.etcd}})
		if err != nil {
			return nil, nil, err
		}
		closeEtcd = func() { etcd.Close() }
		for _, quota := range quotas {
			steps = append(steps, c.rewrite(ctx, etcd, "/registry/resourcequotas/"+c.namespace+"/"+quota))
		}
	}
	for w := range c.writers {
		steps = append(steps, func(n int) error { return c.write(ctx, clients[w%len(clients)], quotas[(w+n)%len(quotas)], w, n) })
	}
	for w := range c.creators {
		name := fmt.Sprintf("contend-%d-%d", time.Now().UnixMilli(), w)
		steps = append(steps, func(int) error { return c.create(ctx, clients[w%len(clients)], name) })
	}
	if len(steps) == 0 {
		return nil, nil, errors.New("none of -etcd, -writers and -creators")
	}
	return steps, closeEtcd, nil
}

// repeat does one step after the other until the context ends, and tells when it has got going.
func (c *contention) repeat(ctx context.Context, started time.Time, going func(), step step) {
	const warmUp = 20 // The first creates would slip through: connections are new, and nothing lags yet.
	succeeded := 0
	for n := 0; ctx.Err() == nil; n++ {
		if c.pause > 0 {
			if at := time.Since(started) % (c.burst + c.pause); at >= c.burst {
				sleep(ctx, c.burst+c.pause-at)
			}
		}
		err := step(n)
		if err == nil {
			if succeeded++; succeeded == warmUp {
				going()
			}
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
			sleep(ctx, 100*time.Millisecond) // The server is away: do not spin.
		}
	}
}

// rewrite puts a quota into etcd as it is, at a steady rate. The content stays, the revision changes, and that is all that an apiserver looks
// at when it charges a quota: as if one more apiserver did nothing but charge this quota. It never takes back a charge, since it writes
// only over the revision that it has read.
//
// A charge fails when four writes in a row get between the apiserver's cache and its update. The writers below, which pay for a whole
// request each, seldom manage that on a small machine (0 to 20 % of the creates). This does: several quotas with moderate rates are best,
// for an apiserver must charge all of them, one after the other. Thousands of writes a second over more than a few seconds are too much:
// the apiservers cut off their own watchers, which come back only after a pause of up to 30 s, and all that while every create conflicts.
func (c *contention) rewrite(ctx context.Context, etcd *clientv3.Client, key string) step {
	var value string
	var revision int64 // 0 at first: that revision loses, and reads.
	pace := time.NewTicker(time.Duration(float64(time.Second) / c.etcdRate))
	return func(int) error {
		<-pace.C
		answer, err := etcd.Txn(ctx).
			If(clientv3.Compare(clientv3.ModRevision(key), "=", revision)).
			Then(clientv3.OpPut(key, value)).
			Else(clientv3.OpGet(key)).
			Commit()
		if err != nil {
			return err
		}
		if answer.Succeeded {
			revision = answer.Header.Revision
			c.count(func(r *contendReport) { r.EtcdWrites++ })
			return nil
		}
		found := answer.Responses[0].GetResponseRange().Kvs
		if len(found) == 0 {
			return fmt.Errorf("no %s in etcd", key)
		}
		if revision != 0 {
			c.count(func(r *contendReport) { r.EtcdLost++ })
		}
		value, revision = string(found[0].Value), found[0].ModRevision
		return nil
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

// sleep sleeps, or less if the context ends.
func sleep(ctx context.Context, pause time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(pause):
	}
}
