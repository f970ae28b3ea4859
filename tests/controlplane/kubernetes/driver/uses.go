package main

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	applycorev1 "k8s.io/client-go/applyconfigurations/core/v1"
	"k8s.io/client-go/kubernetes"
)

// objectUse uses the API and removes what it has made. It fails unless the answers are what
// Kubernetes promises. Otherwise two equal refusals for another reason could pass a check.
type objectUse func(ctx context.Context, client *kubernetes.Clientset, namespace string) error

var objectChecks = []struct {
	name string
	use  objectUse
}{
	{"server-side apply: create, conflict, force", useApply},
	{"patches: strategic, merge, JSON, refused", usePatches},
	{"status subresource", useStatus},
	{"deletecollection", useDeleteCollection},
	{"pagination over 250 objects", usePages},
	{"table output", useTable},
	{"dry run", useDryRun},
	{"refusals: exists, invalid, stale, not found", useRefusals},
}

func useApply(ctx context.Context, client *kubernetes.Clientset, namespace string) error {
	maps := client.CoreV1().ConfigMaps(namespace)
	apply := func(manager, value string, force bool) error {
		wanted := applycorev1.ConfigMap("applied", namespace).WithData(map[string]string{"key": value})
		_, err := maps.Apply(ctx, wanted, metav1.ApplyOptions{FieldManager: manager, Force: force})
		return err
	}
	return errors.Join(
		apply("first", "a", false),
		expect("a conflict", apierrors.IsConflict, apply("second", "b", false)),
		apply("second", "b", true),
		maps.Delete(ctx, "applied", metav1.DeleteOptions{}),
	)
}

func usePatches(ctx context.Context, client *kubernetes.Clientset, namespace string) error {
	return withPod(ctx, client, namespace, "patched", func(*corev1.Pod) error {
		patch := func(kind types.PatchType, body string) error {
			_, err := client.CoreV1().Pods(namespace).Patch(ctx, "patched", kind, []byte(body), metav1.PatchOptions{})
			return err
		}
		return errors.Join(
			patch(types.StrategicMergePatchType, `{"spec":{"containers":[{"name":"main","image":"registry.k8s.io/pause:3.9"}]}}`),
			patch(types.MergePatchType, `{"metadata":{"labels":{"patched":"merge"}}}`),
			patch(types.JSONPatchType, `[{"op":"replace","path":"/metadata/labels/patched","value":"json"}]`),
			expect("invalid", apierrors.IsInvalid, patch(types.JSONPatchType, `[{"op":"test","path":"/metadata/labels/patched","value":"other"}]`)),
		)
	})
}

func useStatus(ctx context.Context, client *kubernetes.Clientset, namespace string) error {
	return withPod(ctx, client, namespace, "reported", func(pod *corev1.Pod) error {
		pod.Status.Message = "from the status subresource"
		pod.Spec.Containers[0].Image = "ignored" // The subresource changes nothing else.
		stored, err := client.CoreV1().Pods(namespace).UpdateStatus(ctx, pod, metav1.UpdateOptions{})
		if err == nil && (stored.Status.Message != pod.Status.Message || stored.Spec.Containers[0].Image == "ignored") {
			err = fmt.Errorf("stored message %q and image %q", stored.Status.Message, stored.Spec.Containers[0].Image)
		}
		return err
	})
}

func useDeleteCollection(ctx context.Context, client *kubernetes.Clientset, namespace string) error {
	maps := client.CoreV1().ConfigMaps(namespace)
	label := map[string]string{"collected": "yes"}
	for n := range 5 {
		object := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("collected-%d", n), Labels: label}}
		if _, err := maps.Create(ctx, object, metav1.CreateOptions{}); err != nil {
			return err
		}
	}
	selected := metav1.ListOptions{LabelSelector: "collected=yes"}
	if err := maps.DeleteCollection(ctx, metav1.DeleteOptions{}, selected); err != nil {
		return err
	}
	left, err := maps.List(ctx, selected)
	if err == nil && len(left.Items) > 0 {
		err = fmt.Errorf("%d objects are left", len(left.Items))
	}
	return err
}

func usePages(ctx context.Context, client *kubernetes.Clientset, namespace string) error {
	page := metav1.ListOptions{Limit: 100}
	for _, want := range []int{100, 100, 50} {
		list, err := client.CoreV1().Secrets(namespace).List(ctx, page)
		if err != nil {
			return err
		}
		if len(list.Items) != want {
			return fmt.Errorf("a page of %d, want %d", len(list.Items), want)
		}
		page.Continue = list.Continue
	}
	if page.Continue != "" {
		return errors.New("the last page says that there is more")
	}
	return nil
}

func useTable(ctx context.Context, client *kubernetes.Clientset, namespace string) error {
	return withPod(ctx, client, namespace, "tabled", func(*corev1.Pod) error {
		for _, path := range []string{"/pods", "/pods/tabled"} {
			result := client.CoreV1().RESTClient().Get().AbsPath("/api/v1/namespaces/"+namespace+path).
				SetHeader("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io").Do(ctx)
			if err := result.Error(); err != nil {
				return err
			}
		}
		return nil
	})
}

func useDryRun(ctx context.Context, client *kubernetes.Clientset, namespace string) error {
	pods := client.CoreV1().Pods(namespace)
	_, created := pods.Create(ctx, smallPod("dry"), metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	_, got := pods.Get(ctx, "dry", metav1.GetOptions{})
	return errors.Join(created, expect("not found", apierrors.IsNotFound, got))
}

func useRefusals(ctx context.Context, client *kubernetes.Clientset, namespace string) error {
	pods := client.CoreV1().Pods(namespace)
	return withPod(ctx, client, namespace, "refused", func(pod *corev1.Pod) error {
		_, again := pods.Create(ctx, smallPod("refused"), metav1.CreateOptions{})
		_, invalid := pods.Create(ctx, smallPod("Not_A_Name"), metav1.CreateOptions{})
		first := pod.DeepCopy()
		first.Labels = map[string]string{"updated": "once"}
		_, updated := pods.Update(ctx, first, metav1.UpdateOptions{})
		_, stale := pods.Update(ctx, pod, metav1.UpdateOptions{})
		_, missing := pods.Get(ctx, "nowhere", metav1.GetOptions{})
		return errors.Join(
			updated,
			expect("already exists", apierrors.IsAlreadyExists, again),
			expect("invalid", apierrors.IsInvalid, invalid),
			expect("a conflict", apierrors.IsConflict, stale),
			expect("not found", apierrors.IsNotFound, missing),
		)
	})
}

// withPod makes a pod for the use, and deletes it afterwards.
func withPod(ctx context.Context, client *kubernetes.Clientset, namespace, name string, use func(*corev1.Pod) error) error {
	pods := client.CoreV1().Pods(namespace)
	pod, err := pods.Create(ctx, smallPod(name), metav1.CreateOptions{})
	if err != nil {
		return err
	}
	now := int64(0)
	return errors.Join(use(pod), pods.Delete(ctx, name, metav1.DeleteOptions{GracePeriodSeconds: &now}))
}

// expect turns the refusal that a check expects into success, and anything else into an error.
func expect(what string, is func(error) bool, err error) error {
	if is(err) {
		return nil
	}
	return fmt.Errorf("wanted %s, got %v", what, err)
}
