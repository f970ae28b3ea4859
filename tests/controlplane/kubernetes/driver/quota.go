package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
)

// quotaReport is the report of quota.
type quotaReport struct {
	// Namespace is ready for creates.
	Namespace string `json:"namespace"`
	// Quotas has the quotas by name, with their status.
	Quotas []string `json:"quotas"`
	// Seconds is the time until all was ready.
	Seconds float64 `json:"seconds"`
}

type quota struct {
	target
	namespace string
	quotas    int
	pods      string
	timeout   time.Duration
}

func quotaCommand(flags *flag.FlagSet) runner {
	q := &quota{}
	q.register(flags)
	flags.StringVar(&q.namespace, "namespace", "storm", "`namespace` to create, unless it exists")
	flags.IntVar(&q.quotas, "quotas", 1, "`number` of quotas to create; may be 0")
	flags.StringVar(&q.pods, "hard-pods", "1000000", "pods allowed by each quota, as a `quantity`")
	flags.DurationVar(&q.timeout, "timeout", time.Minute, "give up after this `time`")
	return func(ctx context.Context) (any, error) { return q.run(ctx) }
}

func (q *quota) run(ctx context.Context) (*quotaReport, error) {
	pods, err := resource.ParseQuantity(q.pods)
	if err != nil {
		return nil, fmt.Errorf("-hard-pods: %w", err)
	}
	client, err := q.connectOne()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, q.timeout)
	defer cancel()
	started := time.Now()
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: q.namespace}}
	if _, err := client.CoreV1().Namespaces().Create(ctx, namespace, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		return nil, err
	}
	report := &quotaReport{Namespace: q.namespace, Quotas: []string{}}
	for i := range q.quotas {
		quota := &corev1.ResourceQuota{
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("quota-%d", i)},
			Spec: corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{
				corev1.ResourcePods:           pods,
				corev1.ResourceRequestsCPU:    resource.MustParse("1M"),
				corev1.ResourceRequestsMemory: resource.MustParse("1Pi"),
			}},
		}
		if _, err := client.CoreV1().ResourceQuotas(q.namespace).Create(ctx, quota, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
			return nil, err
		}
		report.Quotas = append(report.Quotas, quota.Name)
	}
	// Until the controller has written the status, creates are refused with "status unknown for
	// quota". Without the service account they are refused with "no API token found".
	err = wait.PollUntilContextCancel(ctx, 50*time.Millisecond, true, func(ctx context.Context) (bool, error) { return q.ready(ctx, client) })
	if err != nil {
		return nil, fmt.Errorf("waiting for the controllers to fill in quotas and service account: %w", err)
	}
	report.Seconds = time.Since(started).Seconds()
	return report, nil
}

func (q *quota) ready(ctx context.Context, client *kubernetes.Clientset) (bool, error) {
	_, err := client.CoreV1().ServiceAccounts(q.namespace).Get(ctx, "default", metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	quotas, err := client.CoreV1().ResourceQuotas(q.namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return false, err
	}
	if len(quotas.Items) < q.quotas {
		return false, errors.New("a quota vanished")
	}
	for _, quota := range quotas.Items {
		if len(quota.Status.Hard) != len(quota.Spec.Hard) {
			return false, nil
		}
	}
	return true, nil
}
