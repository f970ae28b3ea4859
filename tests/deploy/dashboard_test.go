// Package deploy holds the tools that the checks of deploy/ need, and the one check that wants Go: Grafana's own schema.
package deploy

import (
	"encoding/json"
	"os"
	"testing"

	"github.com/grafana/grafana-foundation-sdk/go/cog/plugins"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
)

// Unknown fields and wrong types are errors, in the options of each panel and in each query too.
func TestTheDashboardFitsGrafanasSchema(t *testing.T) {
	plugins.RegisterDefaultPlugins()
	raw, err := os.ReadFile("../../deploy/helm/kube-retry-proxy/files/dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	var parsed dashboard.Dashboard
	// Without any mistake it returns an empty list, which is not nil.
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
