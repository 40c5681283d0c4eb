package main

import (
	"context"
	"fmt"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	applycorev1 "k8s.io/client-go/applyconfigurations/core/v1"
	"k8s.io/client-go/tools/pager"
	"k8s.io/client-go/util/retry"
)

// writes meets conflicts, both of versions and of owners, and lists what it made in pages.
func (s *session) writes(ctx context.Context) error {
	api := s.client.CoreV1().ConfigMaps(s.namespace)
	stale, err := api.Get(ctx, "during", metav1.GetOptions{})
	if err != nil {
		return err
	}
	patch := []byte(`{"data":{"other":"1"}}`)
	for _, kind := range []types.PatchType{types.StrategicMergePatchType, types.MergePatchType} {
		if _, err := api.Patch(ctx, "during", kind, patch, metav1.PatchOptions{}); err != nil {
			return fmt.Errorf("%s: %w", kind, err)
		}
	}
	stale.Data["value"] = "4"
	if _, err := api.Update(ctx, stale, metav1.UpdateOptions{}); !apierrors.IsConflict(err) {
		return fmt.Errorf("an old version was taken: %v", err)
	}
	var tries atomic.Int32
	err = retry.RetryOnConflict(retry.DefaultRetry, func() error {
		found, err := api.Get(ctx, "during", metav1.GetOptions{})
		if err != nil {
			return err
		}
		if tries.Add(1) == 1 {
			found.ResourceVersion = stale.ResourceVersion
		}
		found.Data["value"] = "5"
		_, err = api.Update(ctx, found, metav1.UpdateOptions{})
		return err
	})
	if err != nil || tries.Load() != 2 {
		return fmt.Errorf("after %d tries: %v", tries.Load(), err)
	}
	apply := applycorev1.ConfigMap("applied", s.namespace).WithData(map[string]string{"a": "1"})
	if _, err := api.Apply(ctx, apply, metav1.ApplyOptions{FieldManager: "one"}); err != nil {
		return err
	}
	apply.WithData(map[string]string{"a": "2"})
	if _, err := api.Apply(ctx, apply, metav1.ApplyOptions{FieldManager: "two"}); !apierrors.IsConflict(err) {
		return fmt.Errorf("a field of another was taken: %v", err)
	}
	applied, err := api.Apply(ctx, apply, metav1.ApplyOptions{FieldManager: "two", Force: true})
	if err != nil || applied.Data["a"] != "2" || len(applied.ManagedFields) != 1 {
		return fmt.Errorf("applied: %v: %v", applied, err)
	}
	owned, err := applycorev1.ExtractConfigMap(applied, "two")
	if err != nil || owned.Data["a"] != "2" {
		return fmt.Errorf("what is owned: %v: %v", owned, err)
	}
	return s.pages(ctx)
}

func (s *session) pages(ctx context.Context) error {
	api := s.client.CoreV1().ConfigMaps(s.namespace)
	for number := range 7 {
		if _, err := api.Create(ctx, configMap(fmt.Sprintf("page-%d", number), "p"), metav1.CreateOptions{}); err != nil {
			return err
		}
	}
	list := pager.New(func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
		return api.List(ctx, options)
	})
	list.PageSize = 2
	count := 0
	err := list.EachListItem(ctx, metav1.ListOptions{LabelSelector: "app=session"}, func(object runtime.Object) error {
		if object.(*corev1.ConfigMap).Data["value"] == "p" {
			count++
		}
		return nil
	})
	if err != nil || count != 7 {
		return fmt.Errorf("%d in pages: %v", count, err)
	}
	return api.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: "app=session"})
}
