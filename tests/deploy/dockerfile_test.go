package deploy

import (
	"context"
	"os"
	"testing"

	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/frontend/dockerfile/dockerfile2llb"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerui"
	"github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

// anyImage resolves every image to one without a configuration, so that a plan needs no registry.
type anyImage struct{}

func (anyImage) ResolveImageConfig(_ context.Context, ref string, _ sourceresolver.Opt) (string, digest.Digest, []byte, error) {
	config := []byte("{}")
	return ref, digest.FromBytes(config), config, nil
}

// This is `docker build --check` for each platform that the Dockerfile names. Nothing is built, because
// that needs an engine.
func TestBuildKitPlansTheImageWithoutAWarning(t *testing.T) {
	raw, err := os.ReadFile("../../deploy/Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	for _, architecture := range []string{"amd64", "arm64"} {
		platform := ocispecs.Platform{OS: "linux", Architecture: architecture}
		result, err := dockerfile2llb.Dockerfile2LLB(context.Background(), raw, dockerfile2llb.ConvertOpt{
			Config:         dockerui.Config{BuildPlatforms: []ocispecs.Platform{{OS: "linux", Architecture: "amd64"}}},
			TargetPlatform: &platform,
			MetaResolver:   anyImage{},
			Warn:           func(rule, _, _, message string, _ []parser.Range) { t.Errorf("%s: %s", rule, message) },
		})
		if err != nil {
			t.Fatal(err)
		}
		if user := result.Image.Config.User; user != "65532:65532" {
			t.Errorf("runAsNonRoot needs a numeric user, not %q", user)
		}
	}
}
