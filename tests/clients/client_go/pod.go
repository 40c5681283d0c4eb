package main

import (
	"bytes"
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/record"
	"k8s.io/client-go/tools/remotecommand"
)

// pod runs one, records an event about it, enters it in both ways that clients know, and evicts it.
func (s *session) pod(ctx context.Context) error {
	api, seconds := s.client.CoreV1().Pods(s.namespace), int64(0)
	made, err := api.Create(ctx, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "entered", Labels: map[string]string{"app": "entered"}},
		Spec: corev1.PodSpec{
			TerminationGracePeriodSeconds: &seconds,
			Containers:                    []corev1.Container{{Name: "it", Image: s.image, Command: []string{"sleep", "1000"}}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	s.event(made)
	running := func() (bool, error) {
		pod, err := api.Get(ctx, "entered", metav1.GetOptions{})
		return err == nil && pod.Status.Phase == corev1.PodRunning, err
	}
	if err := until(ctx, "the pod runs", running); err != nil {
		return err
	}
	if err := s.enter(ctx); err != nil {
		return err
	}
	eviction := &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: "entered", Namespace: s.namespace}}
	if err := api.EvictV1(ctx, eviction); err != nil {
		return err
	}
	err = until(ctx, "the pod is gone", func() (bool, error) {
		_, err := api.Get(ctx, "entered", metav1.GetOptions{})
		return apierrors.IsNotFound(err), nil
	})
	if err != nil {
		return err
	}
	return until(ctx, "an event", func() (bool, error) {
		events, err := s.client.CoreV1().Events(s.namespace).Search(scheme.Scheme, made)
		if err != nil {
			return false, err
		}
		for _, event := range events.Items {
			if event.Reason == "Visited" && event.Source.Component == "session" {
				return true, nil
			}
		}
		return false, nil
	})
}

func (s *session) event(pod *corev1.Pod) {
	broadcaster := record.NewBroadcaster()
	sink := &typedcorev1.EventSinkImpl{Interface: s.client.CoreV1().Events("")}
	broadcaster.StartRecordingToSink(sink)
	recorder := broadcaster.NewRecorder(scheme.Scheme, corev1.EventSource{Component: "session"})
	recorder.Event(pod, corev1.EventTypeNormal, "Visited", "by the session")
}

func (s *session) enter(ctx context.Context) error {
	request := s.client.CoreV1().RESTClient().Post().Resource("pods").Namespace(s.namespace).Name("entered").
		SubResource("exec").VersionedParams(&corev1.PodExecOptions{
		Command: []string{"cat"}, Stdin: true, Stdout: true,
	}, scheme.ParameterCodec)
	spdy, err := remotecommand.NewSPDYExecutor(s.config, "POST", request.URL())
	if err != nil {
		return err
	}
	socket, err := remotecommand.NewWebSocketExecutor(s.config, "GET", request.URL().String())
	if err != nil {
		return err
	}
	for name, executor := range map[string]remotecommand.Executor{"SPDY": spdy, "WebSocket": socket} {
		var said bytes.Buffer
		options := remotecommand.StreamOptions{Stdin: bytes.NewBufferString("through " + name), Stdout: &said}
		if err := executor.StreamWithContext(ctx, options); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if said.String() != "through "+name {
			return fmt.Errorf("%s: it said %q", name, said.String())
		}
	}
	return nil
}
