package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
)

// objectsReport is the report of objects.
type objectsReport struct {
	// OK is set when all checks are OK.
	OK     bool          `json:"ok"`
	Checks []objectCheck `json:"checks"`
}

// objectCheck is one use of the API. It runs directly and then through the proxy, with the same
// names in the same namespace.
type objectCheck struct {
	Name     string `json:"name"`
	Encoding string `json:"encoding"`
	// OK is set when both runs did what the check expects and all their answers were equal: the
	// status, the headers except a few, and the body. What cannot be equal in two answers is
	// masked: UIDs, times, resource versions and continue tokens.
	OK bool `json:"ok"`
	// Exchanges is the number of requests of each run.
	Exchanges int `json:"exchanges"`
	// Difference is the first difference, or what failed. It is empty if OK.
	Difference string `json:"difference,omitempty"`
}

type objects struct {
	target
	directKubeconfig string
	namespace        string
	timeout          time.Duration
}

func objectsCommand(flags *flag.FlagSet) runner {
	o := &objects{}
	o.register(flags)
	flags.StringVar(&o.directKubeconfig, "direct-kubeconfig", "", "`file` for the same uses directly, as the same user, who may update pods/status (required)")
	flags.StringVar(&o.namespace, "namespace", "objects", "`namespace`, which must exist, without a quota and for this run alone")
	flags.DurationVar(&o.timeout, "timeout", 2*time.Minute, "give up after this `time`")
	return func(ctx context.Context) (any, error) { return o.run(ctx) }
}

func (o *objects) run(ctx context.Context) (*objectsReport, error) {
	if o.directKubeconfig == "" {
		return nil, errors.New("-direct-kubeconfig is required")
	}
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	report := &objectsReport{OK: true}
	for _, encoding := range []string{"json", "protobuf"} {
		o.encoding = encoding
		direct := target{kubeconfig: o.directKubeconfig, encoding: encoding, http: o.http, perServer: 1}
		var records [2]recorder
		directly, err := direct.connectOne(records[0].observe)
		if err != nil {
			return nil, err
		}
		proxied, err := o.connectOne(records[1].observe)
		if err != nil {
			return nil, err
		}
		cleanUp, err := o.prepare(ctx, directly)
		if err != nil {
			return nil, err
		}
		for _, check := range objectChecks {
			result := objectCheck{Name: check.name, Encoding: encoding}
			result.Difference = o.compare(ctx, check.use, [2]*kubernetes.Clientset{directly, proxied}, &records)
			result.Exchanges = len(records[0].exchanges)
			result.OK = result.Difference == ""
			report.OK = report.OK && result.OK
			report.Checks = append(report.Checks, result)
			progress("%s, %s: ok %v", check.name, encoding, result.OK)
		}
		if err := cleanUp(); err != nil {
			return nil, err
		}
	}
	return report, nil
}

// listed is the number of secrets to page through, and listedBytes is their size. The pages are
// large enough for the apiserver to use gzip.
const (
	listed      = 250
	listedBytes = 2048
)

// prepare makes the objects that both runs page through, and returns a function that removes them.
func (o *objects) prepare(ctx context.Context, client *kubernetes.Clientset) (func() error, error) {
	secrets := client.CoreV1().Secrets(o.namespace)
	for n := range listed {
		secret := &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("listed-%03d", n)},
			StringData: map[string]string{"data": strings.Repeat("x", listedBytes)},
		}
		if _, err := secrets.Create(ctx, secret, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
			return nil, err
		}
	}
	return func() error { return secrets.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{}) }, nil
}

// compare runs a check both ways and returns the first difference, or "".
func (o *objects) compare(ctx context.Context, use objectUse, sides [2]*kubernetes.Clientset, records *[2]recorder) string {
	for side, client := range sides {
		records[side].exchanges = nil
		if err := use(ctx, client, o.namespace); err != nil {
			return fmt.Sprintf("%s: %v", []string{"directly", "proxied"}[side], err)
		}
	}
	directly, proxied := records[0].exchanges, records[1].exchanges
	if len(directly) != len(proxied) {
		return fmt.Sprintf("%d requests directly, %d proxied", len(directly), len(proxied))
	}
	for n := range directly {
		if directly[n] != proxied[n] {
			return fmt.Sprintf("%s: directly %s, proxied %s", directly[n].request, directly[n].answer, proxied[n].answer)
		}
	}
	return ""
}

// recorder keeps every exchange of a client-set. It needs no lock, because the requests of a check
// are sequential.
type recorder struct{ exchanges []exchange }

// exchange is a request and its answer as masked text.
type exchange struct{ request, answer string }

func (r *recorder) observe(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(request *http.Request) (*http.Response, error) {
		query := request.URL.Query()
		if query.Has("continue") {
			query.Set("continue", "*")
		}
		line := request.Method + " " + request.URL.Path + "?" + query.Encode()
		response, err := next.RoundTrip(request)
		if err != nil {
			r.exchanges = append(r.exchanges, exchange{line, err.Error()})
			return nil, err
		}
		body, err := io.ReadAll(response.Body)
		response.Body.Close()
		response.Body = io.NopCloser(bytes.NewReader(body))
		if err != nil {
			r.exchanges = append(r.exchanges, exchange{line, "body: " + err.Error()})
			return nil, err
		}
		answer := fmt.Sprintf("%s %s gzip=%v %s %s", response.Proto, response.Status, response.Uncompressed, headersOf(response), bodyOf(body))
		r.exchanges = append(r.exchanges, exchange{line, answer})
		return response, nil
	})
}

// headersOf returns all headers except those that differ in every answer. Of an Audit-Id, it keeps
// only that there is one.
func headersOf(response *http.Response) string {
	headers := response.Header.Clone()
	headers.Del("Date")
	headers.Del("Content-Length") // It depends on the digits of versions.
	if headers.Get("Audit-Id") != "" {
		headers.Set("Audit-Id", "*")
	}
	var lines []string
	for name, values := range headers {
		lines = append(lines, name+": "+strings.Join(values, ", "))
	}
	slices.Sort(lines)
	return strings.Join(lines, "; ")
}

// bodyOf returns a JSON body masked. It converts protobuf to JSON first. Any other body stays
// unchanged.
func bodyOf(body []byte) string {
	if bytes.HasPrefix(body, []byte("k8s\x00")) {
		object, _, err := scheme.Codecs.UniversalDeserializer().Decode(body, nil, nil)
		if err != nil {
			return fmt.Sprintf("undecodable (%v): %q", err, body)
		}
		if body, err = json.Marshal(object); err != nil {
			return err.Error()
		}
	}
	var value any
	if err := json.Unmarshal(body, &value); err != nil {
		return string(body)
	}
	out, err := json.Marshal(mask(value))
	if err != nil {
		return err.Error()
	}
	return string(out)
}

var neverEqual = []string{"uid", "resourceVersion", "creationTimestamp", "deletionTimestamp", "time", "continue"}

func mask(value any) any {
	switch value := value.(type) {
	case map[string]any:
		for key, inner := range value {
			if _, text := inner.(string); text && inner != "" && slices.Contains(neverEqual, key) {
				value[key] = "*"
			} else {
				value[key] = mask(inner)
			}
		}
		if value["kind"] == "Table" {
			maskAges(value)
		}
	case []any:
		for n, inner := range value {
			value[n] = mask(inner)
		}
	}
	return value
}

// maskAges masks the column with the age of objects in a table.
func maskAges(table map[string]any) {
	columns, _ := table["columnDefinitions"].([]any)
	rows, _ := table["rows"].([]any)
	for n, column := range columns {
		if definition, ok := column.(map[string]any); !ok || definition["name"] != "Age" {
			continue
		}
		for _, row := range rows {
			if row, ok := row.(map[string]any); ok {
				if cells, ok := row["cells"].([]any); ok && n < len(cells) {
					cells[n] = "*"
				}
			}
		}
	}
}
