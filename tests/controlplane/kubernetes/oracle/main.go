// Command oracle says what Kubernetes' own code makes of an input. The differential tests compare
// the proxy with it.
//
// It reads one input a line from stdin and prints one answer a line:
//
//	oracle requestinfo   METHOD TARGET     the RequestInfo as JSON, or "refused"
//	oracle quantity      TEXT or TEXT TEXT its canonical form, or how two compare, or "refused"
//	oracle kubeconfig    BASE64            clientcmd's Config as JSON, or "refused"
package main

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/server/filters"
	"k8s.io/client-go/tools/clientcmd"
)

const refused = "refused"

var answers = map[string]func(string) string{
	"requestinfo": requestInfo,
	"quantity":    quantity,
	"kubeconfig":  kubeconfig,
}

func main() {
	if len(os.Args) != 2 || answers[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "oracle: one of requestinfo, quantity and kubeconfig")
		os.Exit(2)
	}
	answer := answers[os.Args[1]]
	in := bufio.NewReaderSize(os.Stdin, 1<<20)
	out := bufio.NewWriterSize(os.Stdout, 1<<20)
	defer out.Flush()
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		fmt.Fprintln(out, answer(strings.TrimSuffix(line, "\n")))
		// The tests do not send more before they have an answer to what they sent.
		if in.Buffered() == 0 {
			out.Flush()
		}
	}
}

// The sets of kube-apiserver, in pkg/controlplane/apiserver/config.go and
// staging/src/k8s.io/apiserver/pkg/server/config.go.
var (
	factory = &request.RequestInfoFactory{
		APIPrefixes:          sets.NewString("api", "apis"),
		GrouplessAPIPrefixes: sets.NewString("api"),
	}
	isLongRunning = filters.BasicLongRunningRequestCheck(
		sets.NewString("watch", "proxy"),
		sets.NewString("attach", "exec", "proxy", "log", "portforward"),
	)
)

type info struct {
	IsResource  bool   `json:"isResource"`
	Verb        string `json:"verb"`
	Path        string `json:"path"`
	APIGroup    string `json:"apiGroup"`
	APIVersion  string `json:"apiVersion"`
	Namespace   string `json:"namespace"`
	Resource    string `json:"resource"`
	Subresource string `json:"subresource"`
	Name        string `json:"name"`
	LongRunning bool   `json:"longRunning"`
}

func requestInfo(line string) string {
	method, target, _ := strings.Cut(line, " ")
	parsed, err := url.ParseRequestURI(target)
	if err != nil {
		return refused
	}
	r := &http.Request{Method: method, URL: parsed}
	found, err := factory.NewRequestInfo(r)
	// With an error, the apiserver answers 500.
	if err != nil && found == nil {
		return refused
	}
	return encoded(info{
		IsResource:  found.IsResourceRequest,
		Verb:        found.Verb,
		Path:        found.Path,
		APIGroup:    found.APIGroup,
		APIVersion:  found.APIVersion,
		Namespace:   found.Namespace,
		Resource:    found.Resource,
		Subresource: found.Subresource,
		Name:        found.Name,
		LongRunning: isLongRunning(r, found),
	})
}

func quantity(line string) string {
	texts := strings.Split(line, " ")
	parsed := make([]resource.Quantity, len(texts))
	for i, text := range texts {
		var err error
		if parsed[i], err = resource.ParseQuantity(text); err != nil {
			return refused
		}
	}
	if len(parsed) == 1 {
		return canonical(parsed[0])
	}
	sum := parsed[0].DeepCopy()
	sum.Add(parsed[1])
	return fmt.Sprintf("%d %s", parsed[0].Cmp(parsed[1]), canonical(sum))
}

// canonical prints the amount. String would print it as it was read.
func canonical(q resource.Quantity) string {
	number, suffix := q.CanonicalizeBytes(make([]byte, 0, 64))
	return string(number) + string(suffix)
}

func kubeconfig(line string) string {
	bytes, err := base64.StdEncoding.DecodeString(line)
	if err != nil {
		return refused
	}
	config, err := clientcmd.Load(bytes)
	if err != nil {
		return refused
	}
	return encoded(config)
}

func encoded(value any) string {
	bytes, err := json.Marshal(value)
	if err != nil {
		return refused
	}
	return string(bytes)
}
