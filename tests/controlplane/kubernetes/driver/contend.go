package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
)

// contendReport is the report of contend. It is printed when contend stops.
type contendReport struct {
	// EtcdWrites counts the new revisions of quotas that were written into etcd.
	EtcdWrites int `json:"etcdWrites"`
	// EtcdLost counts the writes that came too late, because a create had charged the quota in
	// between.
	EtcdLost int `json:"etcdLost"`
	// Writes counts the writes of quotas that the apiservers acknowledged, of all status writers.
	Writes int `json:"writes"`
	// Creates counts the creates of pods that were acknowledged, of all creators. Each pod is
	// deleted at once.
	Creates int `json:"creates"`
	// Conflicts counts the answers "409 Conflict on resourcequotas" that the creators got.
	Conflicts int `json:"conflicts"`
	// EtcdRate is the rate at the end, in writes a second for each quota.
	EtcdRate float64 `json:"etcdRate"`
	// FailedBy counts the other failures by reason/code/message, with names and numbers masked.
	FailedBy map[string]int `json:"failedBy"`
	// Seconds is the time from start to stop, pauses included.
	Seconds float64 `json:"seconds"`
}

type contention struct {
	target
	namespace string
	etcd      string
	refuse    float64
	writers   int
	creators  int
	burst     time.Duration
	pause     time.Duration
	duration  time.Duration

	warm   atomic.Int64
	lock   sync.Mutex
	report contendReport // Its EtcdRate is the current rate.
}

func contendCommand(flags *flag.FlagSet) runner {
	c := &contention{report: contendReport{FailedBy: map[string]int{}}}
	c.register(flags)
	flags.StringVar(&c.namespace, "namespace", "storm", "`namespace`, which must have a quota")
	flags.StringVar(&c.etcd, "etcd", "", "`URL` of etcd: write there, one writer per quota")
	flags.Float64Var(&c.report.EtcdRate, "etcd-rate", 200, "with -etcd: writes a second and quota; 5 quotas with this `rate` refuse about nine creates of ten")
	flags.Float64Var(&c.refuse, "refuse", 0, "with -etcd and -creators: change the rate until this `part` (0 to 1) of the creators' creates conflicts (default: the rate is steady)")
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
	var working sync.WaitGroup
	for _, step := range steps {
		working.Go(func() { c.repeat(ctx, started, step) })
	}
	working.Wait()
	c.report.Seconds = time.Since(started).Seconds()
	return &c.report, nil
}

// step is one write of a writer or one pod of a creator. n counts the steps.
type step func(n int) error

func (c *contention) steps(ctx context.Context, clients []*kubernetes.Clientset, quotas []string) ([]step, func(), error) {
	if c.refuse < 0 || c.refuse >= 1 || (c.refuse > 0 && (c.etcd == "" || c.creators == 0)) {
		return nil, nil, fmt.Errorf("-refuse is %v, want at least 0 and less than 1, with -etcd and -creators", c.refuse)
	}
	var steps []step
	closeEtcd := func() {}
	if c.etcd != "" {
		if c.report.EtcdRate <= 0 {
			return nil, nil, fmt.Errorf("-etcd-rate is %v, want more than 0", c.report.EtcdRate)
		}
		etcd, err := clientv3.New(clientv3.Config{Endpoints: []string{c.etcd}, Logger: zap.NewNop()})
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

// warmUp is the number of steps that must succeed before others may rely on contention. At first
// the connections are new and no cache lags. With -refuse, it is the number of steps of the
// staircase.
const warmUp = 50

func (c *contention) warmed() {
	if c.warm.Add(1) == warmUp {
		progress("contending") // Callers wait for this line.
	}
}

// repeat does one step after the other until the context ends.
func (c *contention) repeat(ctx context.Context, started time.Time, step step) {
	for n := 0; ctx.Err() == nil; n++ {
		if c.pause > 0 {
			if at := time.Since(started) % (c.burst + c.pause); at >= c.burst {
				sleep(ctx, c.burst+c.pause-at)
			}
		}
		err := step(n)
		if err == nil {
			if c.refuse == 0 {
				c.warmed()
			}
			continue
		}
		if ctx.Err() != nil {
			return // The driver's own stop caused the failure.
		}
		c.count(func(r *contendReport) {
			if isQuotaConflict(err) {
				r.Conflicts++
			} else {
				r.FailedBy[reasonOf(err)]++
			}
		})
		if !isAnswer(err) {
			sleep(ctx, 100*time.Millisecond) // The server is away, so do not spin.
		}
	}
}

// rewrite writes a quota into etcd unchanged, at the current rate. The content stays the same and
// the revision changes. An apiserver that charges the quota looks only at the revision, so this has
// the effect of one more apiserver that does nothing but charge this quota. It never takes back a
// charge, because it writes only over the revision that it has read.
//
// A charge fails when four writes in a row happen between the apiserver's cache and its update. The
// writers below need a whole request for each write and rarely manage that on a small machine (0 to
// 20 % of the creates). rewrite does. Several quotas with moderate rates work best, because an
// apiserver must charge all of them, one after the other. Thousands of writes a second for more
// than a few seconds are too many: the apiservers then cut off their own watchers, which return
// only after a pause of up to 30 s. During that time every create conflicts.
func (c *contention) rewrite(ctx context.Context, etcd *clientv3.Client, key string) step {
	var value string
	var revision int64 // The first write loses with revision 0, and then reads the revision.
	var last time.Time
	return func(int) error {
		sleep(ctx, c.interval()-time.Since(last))
		last = time.Now()
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

// write gives the quota a new resourceVersion and changes nothing else, so that an apiserver that
// is charging it loses its compare-and-swap. It patches an annotation. Unlike an update, such a
// patch cannot restore a stale status.used and needs no read. The value must change each time,
// because the apiserver does not store an update that changes nothing.
func (c *contention) write(ctx context.Context, client *kubernetes.Clientset, quota string, writer, n int) error {
	patch := fmt.Appendf(nil, `{"metadata":{"annotations":{"contend":"%d-%d"}}}`, writer, n)
	_, err := client.CoreV1().ResourceQuotas(c.namespace).Patch(ctx, quota, types.MergePatchType, patch, metav1.PatchOptions{}, "status")
	if err == nil {
		c.count(func(r *contendReport) { r.Writes++ })
	}
	return err
}

// create charges the quota as any other client does, and deletes the pod at once. The quota
// controller then recounts.
func (c *contention) create(ctx context.Context, client *kubernetes.Clientset, name string) error {
	if c.refuse > 0 {
		sleep(ctx, rand.N(maxApart))
	}
	pods := client.CoreV1().Pods(c.namespace)
	_, err := pods.Create(ctx, smallPod(name), metav1.CreateOptions{})
	if err == nil || isQuotaConflict(err) {
		c.adapt(err != nil)
	}
	if err != nil {
		return err
	}
	c.count(func(r *contendReport) { r.Creates++ })
	now := int64(0)
	// Delete the pod even if the stop comes in between.
	return pods.Delete(context.WithoutCancel(ctx), name, metav1.DeleteOptions{GracePeriodSeconds: &now})
}

const (
	// maxApart is the longest time between two creates of a creator that measures how often others
	// are refused. An apiserver that has just charged a quota knows it best. So creates in quick
	// succession are refused half as often as a create after a pause.
	maxApart = 200 * time.Millisecond
	// stair is the sum of the steps up and down of the rate's logarithm. The rate stays between
	// minRate and maxRate.
	stair   = 0.2
	minRate = 5.0
	maxRate = 400.0
)

// adapt moves the rate a step up after a create and a step down after a conflict. The steps cancel
// out when the wanted share of creates conflicts (Kaernbach's weighted up-down method). The rate
// for this varies: depending on what else the machine does, the same rate refuses a tenth of the
// creates in one minute and three quarters in the next.
func (c *contention) adapt(refused bool) {
	if c.refuse == 0 {
		return
	}
	step := stair * c.refuse
	if refused {
		step = -stair * (1 - c.refuse)
	}
	c.count(func(r *contendReport) { r.EtcdRate = min(max(r.EtcdRate*math.Exp(step), minRate), maxRate) })
	c.warmed()
}

// interval is the time from one write of a quota to the next.
func (c *contention) interval() (interval time.Duration) {
	c.count(func(r *contendReport) { interval = time.Duration(float64(time.Second) / r.EtcdRate) })
	return interval
}

func (c *contention) count(event func(*contendReport)) {
	c.lock.Lock()
	defer c.lock.Unlock()
	event(&c.report)
}

// sleep waits for the duration or until the context ends.
func sleep(ctx context.Context, pause time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(pause):
	}
}
