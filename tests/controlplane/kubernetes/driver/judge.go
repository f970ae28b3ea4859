package main

import (
	"context"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
)

// judgement compares what the client was told with the pods that are stored. All fields except
// Present, AmbiguousPresent, AmbiguousAbsent, NoAnswerPresent and NoAnswerAbsent must be 0 in every
// run.
type judgement struct {
	// Present counts the pods of this run that were found.
	Present int `json:"present"`
	// Missing counts the pods that were acknowledged, not deleted, and are absent: they are lost.
	Missing int `json:"missing"`
	// UIDMismatch counts the pods that were acknowledged with a UID other than the stored one: they
	// were created twice.
	UIDMismatch int `json:"uidMismatch"`
	// Unexpected counts the pods that were finally refused and are present.
	Unexpected int `json:"unexpected"`
	// DeletedButPresent counts the pods whose deletion was acknowledged and that are present: a
	// late duplicate created them again.
	DeletedButPresent int `json:"deletedButPresent"`
	// AmbiguousPresent and AmbiguousAbsent count the creates with an ambiguous answer.
	AmbiguousPresent int `json:"ambiguousPresent"`
	AmbiguousAbsent  int `json:"ambiguousAbsent"`
	// NoAnswerPresent and NoAnswerAbsent count the creates without an answer.
	NoAnswerPresent int `json:"noAnswerPresent"`
	NoAnswerAbsent  int `json:"noAnswerAbsent"`
}

// judged lists the namespace and compares.
func judged(ctx context.Context, witness *kubernetes.Clientset, namespace string, name func(int) string, outcomes []outcome) (judgement, error) {
	found, err := podsOf(ctx, witness, namespace)
	if err != nil {
		return judgement{}, fmt.Errorf("listing the pods to judge: %w", err)
	}
	var j judgement
	for i, pod := range outcomes {
		uid, present := found[name(i)]
		if present {
			j.Present++
		}
		switch {
		case pod.err == nil && present && uid != pod.uid:
			j.UIDMismatch++
		case pod.err == nil && pod.deleted == deleted && present:
			j.DeletedButPresent++
		case pod.err == nil && pod.deleted == kept && !present:
			j.Missing++
		case pod.err == nil:
		case !isAnswer(pod.err):
			count(present, &j.NoAnswerPresent, &j.NoAnswerAbsent)
		case pod.doubtful:
			count(present, &j.AmbiguousPresent, &j.AmbiguousAbsent)
		case present:
			j.Unexpected++
		}
	}
	return j, nil
}

func count(present bool, yes, no *int) {
	if present {
		*yes++
	} else {
		*no++
	}
}

// podsOf lists all pods of a namespace, consistently and in pages. If a server is not back yet, or
// a page has expired, it retries for a minute.
func podsOf(ctx context.Context, client *kubernetes.Clientset, namespace string) (map[string]types.UID, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		pods, err := listPods(ctx, client, namespace)
		if err == nil || apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err) {
			return pods, err
		}
		progress("listing pods: %v", err)
		if sleep(ctx, time.Second); ctx.Err() != nil {
			return nil, err
		}
	}
}

func listPods(ctx context.Context, client *kubernetes.Clientset, namespace string) (map[string]types.UID, error) {
	pods := map[string]types.UID{}
	page := metav1.ListOptions{Limit: 500}
	for {
		list, err := client.CoreV1().Pods(namespace).List(ctx, page)
		if err != nil {
			return nil, err
		}
		for i := range list.Items {
			pods[list.Items[i].Name] = list.Items[i].UID
		}
		if list.Continue == "" {
			return pods, nil
		}
		page.Continue = list.Continue
	}
}
