package main

import (
	"context"
	"flag"
	"fmt"
	"sync"
	"sync/atomic"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
)

// watchesReport is the report of watches.
type watchesReport struct {
	// Open counts the watches that were still open at the stop.
	Open int64 `json:"open"`
	// Connections counts the connections of the watches.
	Connections int64 `json:"connections"`
}

type watches struct {
	target
	namespace string
	count     int
}

func watchesCommand(flags *flag.FlagSet) runner {
	w := &watches{}
	w.register(flags)
	flags.StringVar(&w.namespace, "namespace", "default", "`namespace` whose config maps are watched")
	flags.IntVar(&w.count, "count", 5000, "`number` of watches")
	return func(ctx context.Context) (any, error) { return w.run(ctx) }
}

// openingAtOnce limits how many watches are being opened at the same time.
const openingAtOnce = 50

func (w *watches) run(ctx context.Context) (*watchesReport, error) {
	clients, err := w.connect()
	if err != nil {
		return nil, err
	}
	var opening, reading sync.WaitGroup
	var open atomic.Int64
	failed := make(chan error, w.count)
	places := make(chan struct{}, openingAtOnce)
	for n := range w.count {
		places <- struct{}{}
		opening.Go(func() {
			defer func() { <-places }()
			maps := clients[n%len(clients)].CoreV1().ConfigMaps(w.namespace)
			opened, err := maps.Watch(ctx, metav1.ListOptions{AllowWatchBookmarks: true})
			if err != nil {
				failed <- err
				return
			}
			open.Add(1)
			reading.Go(func() { w.read(ctx, opened, &open) })
		})
	}
	opening.Wait()
	select {
	case err := <-failed:
		return nil, fmt.Errorf("%d of %d watches are open; another one: %w", open.Load(), w.count, err)
	default:
	}
	progress("watching") // Callers wait for this line.
	<-ctx.Done()
	reading.Wait()
	return &watchesReport{Open: open.Load(), Connections: w.connections.Load()}, nil
}

// read reads until the watch ends. A watch that ends before the driver's own stop is no longer
// open.
func (w *watches) read(ctx context.Context, opened watch.Interface, open *atomic.Int64) {
	for range opened.ResultChan() {
	}
	if ctx.Err() == nil {
		open.Add(-1)
	}
}
