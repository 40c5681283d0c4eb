package main

import (
	"context"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// election has two candidates: the first leads, the second follows when the first lets go, and takes over when it is
// merely silent.
func (s *session) election(ctx context.Context) error {
	leads := make(chan string, 8)
	first, stopFirst := context.WithCancel(ctx)
	defer stopFirst()
	go s.candidate(first, "first", true, leads)
	if err := expectLeader(ctx, leads, "first"); err != nil {
		return err
	}
	second, stopSecond := context.WithCancel(ctx)
	defer stopSecond()
	go s.candidate(second, "second", false, leads)
	stopFirst()
	if err := expectLeader(ctx, leads, "second"); err != nil {
		return err
	}
	third, stopThird := context.WithCancel(ctx)
	defer stopThird()
	go s.candidate(third, "third", true, leads)
	stopSecond()
	if err := expectLeader(ctx, leads, "third"); err != nil {
		return err
	}
	lease, err := s.client.CoordinationV1().Leases(s.namespace).Get(ctx, "election", metav1.GetOptions{})
	if err != nil {
		return err
	}
	if *lease.Spec.HolderIdentity != "third" || *lease.Spec.LeaseTransitions < 2 {
		return fmt.Errorf("the lease says %v", lease.Spec)
	}
	return nil
}

func (s *session) candidate(ctx context.Context, name string, lets bool, leads chan<- string) {
	lock := &resourcelock.LeaseLock{
		LeaseMeta:  metav1.ObjectMeta{Name: "election", Namespace: s.namespace},
		Client:     s.client.CoordinationV1(),
		LockConfig: resourcelock.ResourceLockConfig{Identity: name},
	}
	leaderelection.RunOrDie(ctx, leaderelection.LeaderElectionConfig{
		Lock:            lock,
		LeaseDuration:   4 * time.Second,
		RenewDeadline:   2 * time.Second,
		RetryPeriod:     300 * time.Millisecond,
		ReleaseOnCancel: lets,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(context.Context) { leads <- name },
			OnStoppedLeading: func() {},
		},
	})
}

func expectLeader(ctx context.Context, leads <-chan string, wanted string) error {
	select {
	case leader := <-leads:
		if leader != wanted {
			return fmt.Errorf("%s leads, not %s", leader, wanted)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("nobody leads; it should be %s", wanted)
	}
}
