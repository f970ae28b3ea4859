package main

import (
	"context"
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
)

// script makes the writes one after the other, and keeps them as the expected events.
type script struct {
	client    *kubernetes.Clientset
	namespace string
	label     string
	pods      []string
	writes    []podEvent
}

// podEvent is a write, or the event that it caused.
type podEvent struct {
	what            watch.EventType
	name            string
	resourceVersion string // Empty in a write with deleting set, because the writer does not learn it.
	deleting        bool
}

func (s *script) create(ctx context.Context, from, to int) error {
	for n := from; n < to; n++ {
		pod := smallPod(fmt.Sprintf("%s-%d", s.label, n))
		pod.Labels = map[string]string{"run": s.label}
		stored, err := s.client.CoreV1().Pods(s.namespace).Create(ctx, pod, metav1.CreateOptions{})
		if err != nil {
			return err
		}
		s.pods = append(s.pods, stored.Name)
		s.writes = append(s.writes, podEvent{watch.Added, stored.Name, stored.ResourceVersion, false})
	}
	return nil
}

func (s *script) change(ctx context.Context) error {
	for _, name := range s.pods {
		patch := []byte(`{"metadata":{"annotations":{"changed":"yes"}}}`)
		stored, err := s.client.CoreV1().Pods(s.namespace).Patch(ctx, name, types.MergePatchType, patch, metav1.PatchOptions{})
		if err != nil {
			return err
		}
		s.writes = append(s.writes, podEvent{watch.Modified, name, stored.ResourceVersion, false})
	}
	return nil
}

func (s *script) remove(ctx context.Context) error {
	now := int64(0)
	for _, name := range s.pods {
		if err := s.client.CoreV1().Pods(s.namespace).Delete(ctx, name, metav1.DeleteOptions{GracePeriodSeconds: &now}); err != nil {
			return err
		}
		// The apiserver first marks a pod as being deleted, even with a grace period of 0.
		s.writes = append(s.writes, podEvent{watch.Modified, name, "", true}, podEvent{watch.Deleted, name, "", true})
	}
	return nil
}

// cleanUp removes the objects of a run that failed.
func (s *script) cleanUp(ctx context.Context) {
	now := int64(0)
	err := s.client.CoreV1().Pods(s.namespace).DeleteCollection(ctx, metav1.DeleteOptions{GracePeriodSeconds: &now}, metav1.ListOptions{LabelSelector: "run=" + s.label})
	if err != nil {
		progress("removing pods: %v", err)
	}
}

// judge compares what was seen with what was written.
func (s *script) judge(seen *sightings, pods int) {
	run := seen.run
	run.Expected, run.Received = len(s.writes), len(seen.events)
	times := map[podEvent]int{}
	last := ""
	for _, event := range seen.events {
		// These are decimal numbers without leading zeros, so the longer one is greater.
		if v := event.resourceVersion; len(v) < len(last) || len(v) == len(last) && strings.Compare(v, last) <= 0 {
			run.OutOfOrder++
		}
		last = event.resourceVersion
		if event.deleting {
			event.resourceVersion = ""
		}
		times[event]++
	}
	for _, write := range s.writes {
		if n := times[write]; n == 0 {
			run.Missing++
		} else {
			run.Duplicated += n - 1
		}
		delete(times, write)
	}
	run.Unexplained = len(times)
	run.WrongAtHandler = pods
	for _, name := range s.pods {
		if seen.handled[name] == "add update update delete " {
			run.WrongAtHandler--
		}
	}
}
