// A session with client-go, which speaks protobuf: informers of several kinds beside writes, objects known by their
// metadata alone, two candidates for one lease, conflicts, server-side apply, events, and a command in a pod.
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

const soon = 60 * time.Second

// session is what the parts share.
type session struct {
	client    kubernetes.Interface
	config    *rest.Config
	namespace string
	image     string
}

func main() {
	config, err := clientcmd.BuildConfigFromFlags("", os.Getenv("KUBECONFIG"))
	check(err)
	config.QPS, config.Burst = 100, 200
	protobuf := rest.CopyConfig(config)
	protobuf.ContentType = runtime.ContentTypeProtobuf
	protobuf.AcceptContentTypes = runtime.ContentTypeProtobuf
	client, err := kubernetes.NewForConfig(protobuf)
	check(err)
	s := &session{client, config, os.Getenv("NAMESPACE"), os.Getenv("IMAGE")}
	parts := []struct {
		name string
		run  func(context.Context) error
	}{
		{"informers", s.informers},
		{"metadata", s.metadata},
		{"conflicts and server-side apply", s.writes},
		{"leader election", s.election},
		{"a pod", s.pod},
	}
	for _, part := range parts {
		ctx, cancel := context.WithTimeout(context.Background(), 2*soon)
		if err := part.run(ctx); err != nil {
			fmt.Printf("FAILED: %s: %v\n", part.name, err)
			os.Exit(1)
		}
		cancel()
		fmt.Println(part.name)
	}
	version, err := client.Discovery().ServerVersion()
	check(err)
	fmt.Printf("client-go with protobuf, against %s: informers, metadata, conflicts, apply, leader election, events, exec, eviction\n",
		version.GitVersion)
}

func check(err error) {
	if err != nil {
		fmt.Println("FAILED:", err)
		os.Exit(1)
	}
}

// until waits until a condition holds.
func until(ctx context.Context, what string, holds func() (bool, error)) error {
	poll := func(context.Context) (bool, error) { return holds() }
	if err := wait.PollUntilContextTimeout(ctx, 50*time.Millisecond, soon, true, poll); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

func configMap(name, value string) *corev1.ConfigMap {
	return &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app": "session"}},
		Data:       map[string]string{"value": value},
	}
}
