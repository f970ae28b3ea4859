package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"runtime/debug"
	"strconv"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

// contractReport is the report of contract, the same as that of the drivers in tests/clients.
type contractReport struct {
	// User is the name that the apiserver has for the caller.
	User string `json:"user,omitempty"`
	// Created has the names of the pods that were acknowledged.
	Created []string `json:"created"`
	// Failed has the error of each other pod by its name.
	Failed map[string]string `json:"failed"`
	// Seconds is the time from the first create to the last answer.
	Seconds float64 `json:"seconds"`
	// Version is that of client-go.
	Version string `json:"version"`
	// Error says why nothing was tried.
	Error string `json:"error,omitempty"`
}

// contractCommand is client-go with its defaults, as the other clients of tests/clients: it finds
// its server and token as kubectl does, keeps its own rate limit and never retries a 409.
func contractCommand(flags *flag.FlagSet) runner {
	whoami := flags.Bool("whoami", false, "say who the apiserver takes the caller for")
	return func(ctx context.Context) (any, error) {
		report := &contractReport{Created: []string{}, Failed: map[string]string{}, Version: clientGo()}
		rules := clientcmd.NewDefaultClientConfigLoadingRules()
		config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, nil).ClientConfig()
		if err != nil {
			report.Error = err.Error()
			return report, nil
		}
		client, err := kubernetes.NewForConfig(config)
		if err != nil {
			return nil, err
		}
		if *whoami {
			reviews := client.AuthenticationV1().SelfSubjectReviews()
			review, err := reviews.Create(ctx, &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
			if err != nil {
				report.Error = err.Error()
				return report, nil
			}
			report.User = review.Status.UserInfo.Username
			return report, nil
		}
		return report, report.storm(ctx, client)
	}
}

func (r *contractReport) storm(ctx context.Context, client *kubernetes.Clientset) error {
	count, err := strconv.Atoi(os.Getenv("COUNT"))
	if err != nil {
		return fmt.Errorf("COUNT: %w", err)
	}
	inFlight, err := strconv.Atoi(os.Getenv("IN_FLIGHT"))
	if err != nil {
		return fmt.Errorf("IN_FLIGHT: %w", err)
	}
	names := make(chan string)
	var lock sync.Mutex
	var workers sync.WaitGroup
	started := time.Now()
	for range inFlight {
		workers.Go(func() {
			for name := range names {
				_, err := client.CoreV1().Pods(os.Getenv("NAMESPACE")).Create(ctx, smallPod(name), metav1.CreateOptions{})
				lock.Lock()
				if err == nil {
					r.Created = append(r.Created, name)
				} else {
					r.Failed[name] = err.Error()
				}
				lock.Unlock()
			}
		})
	}
	for i := range count {
		names <- fmt.Sprintf("%s-%d", os.Getenv("PREFIX"), i)
	}
	close(names)
	workers.Wait()
	r.Seconds = time.Since(started).Seconds()
	return nil
}

// clientGo returns the version of client-go that this program is built with.
func clientGo() string {
	build, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, module := range build.Deps {
		if module.Path != "k8s.io/client-go" {
			continue
		}
		if module.Replace != nil {
			return module.Replace.Version
		}
		return module.Version
	}
	return ""
}
