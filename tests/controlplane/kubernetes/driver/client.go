package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"

	"k8s.io/apimachinery/pkg/runtime"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// target says which servers to talk to, and how. Its flags are the same in every subcommand.
type target struct {
	kubeconfig string
	servers    stringList
	encoding   string
	http       int
	perServer  int

	// connections counts the dialled connections. It shows whether keep-alive works.
	connections atomic.Int64
}

func (t *target) register(flags *flag.FlagSet) {
	flags.StringVar(&t.kubeconfig, "kubeconfig", "", "`file` with server, CA and token (required)")
	flags.Var(&t.servers, "server", "`URL` used in place of the kubeconfig's server; repeat it to spread over several, round robin")
	flags.StringVar(&t.encoding, "encoding", "json", "what client-go sends and asks for: json or protobuf")
	flags.IntVar(&t.http, "http", 2, "HTTP `version`, 1 or 2")
	flags.IntVar(&t.perServer, "clients", 1, "client-sets per server; with HTTP/2 each has a connection of its own")
}

// connect makes one client-set for each server. Each observer wraps the transport of every
// client-set, below authentication.
func (t *target) connect(observers ...func(http.RoundTripper) http.RoundTripper) ([]*kubernetes.Clientset, error) {
	if t.kubeconfig == "" {
		return nil, errors.New("-kubeconfig is required")
	}
	if t.perServer < 1 {
		return nil, fmt.Errorf("-clients is %d, want at least 1", t.perServer)
	}
	base, err := clientcmd.BuildConfigFromFlags("", t.kubeconfig)
	if err != nil {
		return nil, err
	}
	servers := []string(t.servers)
	if len(servers) == 0 {
		servers = []string{base.Host}
	}
	var clients []*kubernetes.Clientset
	for range t.perServer {
		for _, server := range servers {
			config := rest.CopyConfig(base)
			config.Host = server
			client, err := t.clientset(config, observers)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", server, err)
			}
			clients = append(clients, client)
		}
	}
	return clients, nil
}

// connectOne connects to a single server.
func (t *target) connectOne(observers ...func(http.RoundTripper) http.RoundTripper) (*kubernetes.Clientset, error) {
	if len(t.servers) > 1 {
		return nil, errors.New("one -server only, here")
	}
	clients, err := t.connect(observers...)
	if err != nil {
		return nil, err
	}
	return clients[0], nil
}

func (t *target) clientset(config *rest.Config, observers []func(http.RoundTripper) http.RoundTripper) (*kubernetes.Clientset, error) {
	config.QPS = -1 // The servers limit the rate, not the client.
	config.UserAgent = "driver"
	switch t.encoding {
	case "json":
		config.ContentType = runtime.ContentTypeJSON
	case "protobuf":
		config.ContentType = runtime.ContentTypeProtobuf
		config.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	default:
		return nil, fmt.Errorf("-encoding is %q, want json or protobuf", t.encoding)
	}
	switch t.http {
	case 1:
		config.NextProtos = []string{"http/1.1"}
	case 2:
	default:
		return nil, fmt.Errorf("-http is %d, want 1 or 2", t.http)
	}
	tlsConfig, err := rest.TLSConfigFor(config)
	if err != nil {
		return nil, err
	}
	// client-go shares one transport among equal configurations and keeps 25 idle connections to a
	// host. That is too few for a storm over HTTP/1.1, which would then measure handshakes. So each
	// client-set has its own transport, otherwise with client-go's defaults.
	dialer := net.Dialer{}
	var wire http.RoundTripper = utilnet.SetTransportDefaults(&http.Transport{
		TLSClientConfig:     tlsConfig,
		MaxIdleConnsPerHost: 1000,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			t.connections.Add(1)
			return dialer.DialContext(ctx, network, address)
		},
	})
	for _, observe := range observers {
		wire = observe(wire)
	}
	authenticated, err := rest.HTTPWrappersForConfig(config, wire)
	if err != nil {
		return nil, err
	}
	return kubernetes.NewForConfigAndClient(config, &http.Client{Transport: authenticated})
}

// roundTripper makes a function an http.RoundTripper.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(request *http.Request) (*http.Response, error) { return f(request) }

// stringList is a flag that can be given several times.
type stringList []string

func (l *stringList) String() string { return strings.Join(*l, ",") }

func (l *stringList) Set(value string) error {
	*l = append(*l, value)
	return nil
}
