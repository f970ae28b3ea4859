// Package deploy has the tools that the checks of deploy/ need, and the checks that need Go: the
// dashboard with Grafana's own schema, and the Dockerfile with BuildKit.
package deploy

import (
	"encoding/json"
	"os"
	"testing"

	"github.com/grafana/grafana-foundation-sdk/go/cog/plugins"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
)

// Unknown fields and wrong types are errors, also in the options of each panel and in each query.
func TestTheDashboardFitsGrafanasSchema(t *testing.T) {
	plugins.RegisterDefaultPlugins()
	raw, err := os.ReadFile("../../deploy/helm/kube-retry-proxy/files/dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	var parsed dashboard.Dashboard
	// If there is no mistake, it returns an empty list, which is not nil.
	if err := parsed.UnmarshalJSONStrict(raw); err != nil && err.Error() != "" {
		t.Fatal(err)
	}
	if err := parsed.Validate(); err != nil {
		t.Fatal(err)
	}
	if _, err := json.Marshal(parsed); err != nil {
		t.Fatal(err)
	}
}
