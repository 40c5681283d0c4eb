package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/metadata/metadatainformer"
	"k8s.io/client-go/tools/cache"
)

// informers starts those a controller-manager would, and compares what they say with what is written.
func (s *session) informers(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	factory := informers.NewSharedInformerFactory(s.client, time.Minute)
	maps := factory.Core().V1().ConfigMaps()
	var lock sync.Mutex
	seen := map[string]int{}
	note := func(verb string, object any) {
		if o, is := object.(*corev1.ConfigMap); is && o.Namespace == s.namespace {
			lock.Lock()
			defer lock.Unlock()
			seen[verb+" "+o.Name+" "+o.Data["value"]]++
		}
	}
	_, err := maps.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { note("add", o) },
		UpdateFunc: func(_, o any) { note("update", o) },
		DeleteFunc: func(o any) { note("delete", o) },
	})
	if err != nil {
		return err
	}
	factory.Core().V1().Pods().Informer()
	factory.Core().V1().Nodes().Informer()
	factory.Core().V1().Secrets().Informer()
	factory.Core().V1().Services().Informer()
	factory.Core().V1().Events().Informer()
	factory.Apps().V1().Deployments().Informer()
	factory.Batch().V1().Jobs().Informer()
	factory.Discovery().V1().EndpointSlices().Informer()
	factory.Networking().V1().Ingresses().Informer()
	factory.Rbac().V1().ClusterRoles().Informer()
	factory.Storage().V1().StorageClasses().Informer()
	factory.Policy().V1().PodDisruptionBudgets().Informer()
	factory.Coordination().V1().Leases().Informer()
	api := s.client.CoreV1().ConfigMaps(s.namespace)
	if _, err := api.Create(ctx, configMap("before", "1"), metav1.CreateOptions{}); err != nil {
		return err
	}
	factory.Start(ctx.Done())
	synced, cancelSync := context.WithTimeout(ctx, soon)
	defer cancelSync()
	for kind, ok := range factory.WaitForCacheSync(synced.Done()) {
		if !ok {
			return fmt.Errorf("the informer of %v has not synced", kind)
		}
	}
	made, err := api.Create(ctx, configMap("during", "2"), metav1.CreateOptions{})
	if err != nil {
		return err
	}
	made.Data["value"] = "3"
	if _, err := api.Update(ctx, made, metav1.UpdateOptions{}); err != nil {
		return err
	}
	if err := api.Delete(ctx, "before", metav1.DeleteOptions{}); err != nil {
		return err
	}
	for _, wanted := range []string{"add before 1", "add during 2", "update during 3", "delete before 1"} {
		err := until(ctx, wanted, func() (bool, error) {
			lock.Lock()
			defer lock.Unlock()
			return seen[wanted] == 1, nil
		})
		if err != nil {
			return err
		}
	}
	listed, err := maps.Lister().ConfigMaps(s.namespace).List(labels.SelectorFromSet(labels.Set{"app": "session"}))
	if err != nil || len(listed) != 1 {
		return fmt.Errorf("the cache has %d objects: %v", len(listed), err)
	}
	cancel()
	factory.Shutdown()
	return nil
}

// metadata watches objects of which only the metadata are asked for.
func (s *session) metadata(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	client, err := metadata.NewForConfig(s.config)
	if err != nil {
		return err
	}
	kind := schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}
	factory := metadatainformer.NewFilteredSharedInformerFactory(client, time.Minute, s.namespace, nil)
	informer := factory.ForResource(kind)
	informer.Informer()
	factory.Start(ctx.Done())
	if !cache.WaitForCacheSync(ctx.Done(), informer.Informer().HasSynced) {
		return fmt.Errorf("it has not synced")
	}
	return until(ctx, "an object", func() (bool, error) {
		object, err := informer.Lister().ByNamespace(s.namespace).Get("during")
		if err != nil {
			return false, nil
		}
		partial, is := object.(*metav1.PartialObjectMetadata)
		return is && partial.Labels["app"] == "session" && partial.UID != "", nil
	})
}
