package main

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// leaseReport is the report of lease.
type leaseReport struct {
	// Acquisitions counts how often the lease was acquired. It is 1 if the lease was never lost.
	Acquisitions int `json:"acquisitions"`
	// Losses counts how often the lease was lost, without the driver's own stop.
	Losses int `json:"losses"`
	// Renewals counts the acknowledged updates of the lease after which it was held. It includes
	// the update that acquired the lease, but not a create that did.
	Renewals int `json:"renewals"`
	// Failed counts the requests of the election without a success, by status or "noAnswer". The
	// first GET of a new lease is a 404.
	Failed map[string]int `json:"failed"`
	// SlowestRenewalMs is the longest time of a renewal, answered or not.
	SlowestRenewalMs float64 `json:"slowestRenewalMs"`
	// Seconds is the time that the election ran.
	Seconds float64 `json:"seconds"`
}

type lease struct {
	target
	namespace string
	name      string
	held      time.Duration
	renew     time.Duration
	retry     time.Duration
	duration  time.Duration

	lock    sync.Mutex
	report  leaseReport
	stopped atomic.Bool
}

func leaseCommand(flags *flag.FlagSet) runner {
	l := &lease{report: leaseReport{Failed: map[string]int{}}}
	l.register(flags)
	flags.StringVar(&l.namespace, "namespace", "default", "`namespace` of the lease")
	flags.StringVar(&l.name, "name", "driver", "`name` of the lease")
	flags.DurationVar(&l.held, "lease-duration", 15*time.Second, "how `long` others respect the lease")
	flags.DurationVar(&l.renew, "renew-deadline", 10*time.Second, "how `long` renewing is tried before the lease is given up")
	flags.DurationVar(&l.retry, "retry-period", 5*time.Second, "`time` between renewals (the three defaults are Argo's)")
	flags.DurationVar(&l.duration, "for", 20*time.Second, "stop after this `time`, or at SIGTERM")
	return func(ctx context.Context) (any, error) { return l.run(ctx) }
}

func (l *lease) run(ctx context.Context) (*leaseReport, error) {
	client, err := l.connectOne(l.observe)
	if err != nil {
		return nil, err
	}
	host, err := os.Hostname()
	if err != nil {
		return nil, err
	}
	config := leaderelection.LeaderElectionConfig{
		Name: l.name,
		Lock: &resourcelock.LeaseLock{
			LeaseMeta:  metav1.ObjectMeta{Namespace: l.namespace, Name: l.name},
			Client:     client.CoordinationV1(),
			LockConfig: resourcelock.ResourceLockConfig{Identity: fmt.Sprintf("%s_%d", host, os.Getpid())},
		},
		LeaseDuration:   l.held,
		RenewDeadline:   l.renew,
		RetryPeriod:     l.retry,
		ReleaseOnCancel: true, // The next run need not wait until the lease expires.
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(context.Context) {
				l.lock.Lock()
				defer l.lock.Unlock()
				l.report.Acquisitions++
				progress("leading") // Callers wait for this line.
			},
			OnStoppedLeading: func() {},
		},
	}
	started := time.Now()
	ctx, cancel := context.WithTimeout(ctx, l.duration)
	defer cancel()
	// From here on, an update releases the lease. It is not a renewal.
	context.AfterFunc(ctx, func() { l.stopped.Store(true) })
	losses := 0
	for ctx.Err() == nil {
		// Argo's controller exits when it loses the lease. The driver runs for it again, so that it
		// can count losses.
		elector, err := leaderelection.NewLeaderElector(config)
		if err != nil {
			return nil, err
		}
		elector.Run(ctx)
		if ctx.Err() == nil {
			losses++
			progress("lost the lease")
		}
	}
	l.lock.Lock()
	defer l.lock.Unlock()
	l.report.Losses = losses
	l.report.Seconds = time.Since(started).Seconds()
	return &l.report, nil
}

// observe measures the election's requests.
func (l *lease) observe(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(request *http.Request) (*http.Response, error) {
		stopped := l.stopped.Load()
		started := time.Now()
		response, err := next.RoundTrip(request)
		took := float64(time.Since(started).Microseconds()) / 1000
		if stopped {
			return response, err
		}
		l.lock.Lock()
		defer l.lock.Unlock()
		if request.Method == http.MethodPut {
			l.report.SlowestRenewalMs = max(l.report.SlowestRenewalMs, took)
		}
		switch {
		case err != nil:
			l.report.Failed["noAnswer"]++
		case response.StatusCode >= 300:
			l.report.Failed[fmt.Sprint(response.StatusCode)]++
		case request.Method == http.MethodPut:
			l.report.Renewals++
		}
		return response, err
	})
}
