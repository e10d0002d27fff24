package exchange

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/lockstep-dev/lockstep/internal/registry"
	"github.com/lockstep-dev/lockstep/pkg/fold"
)

// bundled is a bundle of one environment with the values, all but the quick ones from manifests.
func bundled(t interface{ Fatal(...any) }, values, quick Values) []byte {
	text, _, err := Manifests(nil, registry.Target{Name: "prod-eu"}, JSON, values)
	if err != nil {
		t.Fatal(err)
	}
	s, err := registry.Read([]registry.File{{Name: "a.yaml", Text: text}})
	if err != nil {
		t.Fatal(err)
	}
	all := Values{}
	for _, some := range []Values{values, quick} {
		for key, value := range some {
			all[key] = value
		}
	}
	b := &Bundle{APIVersion: registry.APIVersion, Kind: BundleKind, Ledger: "l", Entry: 7, Time: time.Unix(0, 0).UTC()}
	if err := b.Add(Bundled{Name: "prod-eu", Revision: 3, State: new(fold.State).With(all).String(), Values: all}, s); err != nil {
		t.Fatal(err)
	}
	out, err := json.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestABundleCarriesManifestsAndState: what comes out of a bundle renders as what went in, and what only quick edits gave is named.
func TestABundleCarriesManifestsAndState(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := values(t)
		if _, _, err := Manifests(nil, registry.Target{Name: "prod-eu"}, JSON, all); err != nil {
			return
		}
		b, err := ReadBundle(bundled(t, all, Values{"variable/quick": []byte(`1`)}))
		if err != nil {
			t.Fatal(err)
		}
		files, err := b.Directory(b.Names())
		if err != nil {
			t.Fatal(err)
		}
		if got := rendered(t, files, registry.Target{Name: "prod-eu"}); !same(got, all) {
			t.Fatalf("%s came back as %s", all, got)
		}
		if behind, err := b.Behind(files, "prod-eu"); err != nil || fmt.Sprint(behind) != "[variable/quick]" {
			t.Fatalf("%v %v", behind, err)
		}
	})
}

func TestAnAlteredBundleIsRefused(t *testing.T) {
	good := bundled(t, Values{"variable/level": []byte(`"info"`)}, nil)
	if _, err := ReadBundle(good); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ old, new, want string }{
		{`"default":"info"`, `"default":"debug"`, "was altered: it has another digest"},
		{`"variable/level":"info"`, `"variable/level":"debug"`, "the values of prod-eu in the bundle were altered"},
		{`"sources":["`, `"sources":["f`, "the bundle lacks the manifest f"},
		{`"kind":"Bundle"`, `"kind":"Bundles"`, "this is no bundle of 'publisher export'"},
		{`"ledger":"l"`, `"ledger":"l","more":1`, "this is no bundle of 'publisher export'"},
		{`"ledger":"l"`, `"ledger":"l","ledger":"m"`, "this is no bundle: "},
	} {
		if !bytes.Contains(good, []byte(c.old)) {
			t.Fatalf("%s is not in %s", c.old, good)
		}
		if _, err := ReadBundle(bytes.ReplaceAll(good, []byte(c.old), []byte(c.new))); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.new, err)
		}
	}
}

func TestEnvironmentsWithDifferentVersionsAreNoOneDirectory(t *testing.T) {
	b := &Bundle{}
	for name, level := range map[string]string{"dev": "debug", "prod": "info"} {
		s, err := registry.Read([]registry.File{{Name: "a.yaml", Text: "apiVersion: lockstep/v1\nkind: Variable\nmetadata: {name: level}\nspec: {default: " + level + "}\n"}})
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Add(Bundled{Name: name}, s); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := b.Directory([]string{"dev", "prod"}); err == nil || err.Error() != "the environments hold different versions of Variable/level: name one environment with --env" {
		t.Error(err)
	}
	if files, err := b.Directory([]string{"dev"}); err != nil || len(files) != 1 || files[0].Name != "variables.yaml" {
		t.Errorf("%v %v", files, err)
	}
	if _, err := b.Directory([]string{"test"}); err == nil || !strings.HasPrefix(err.Error(), "the bundle has no environment test; it has ") {
		t.Error(err)
	}
}

func FuzzReadBundle(f *testing.F) {
	f.Add(bundled(f, Values{"variable/level": []byte(`"info"`)}, nil))
	f.Add([]byte(`{"apiVersion":"lockstep/v1","kind":"Bundle","manifests":{"":null},"environments":[{"sources":[""],"values":{"variable/a":null}}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := ReadBundle(data)
		if err != nil {
			return
		}
		if files, err := b.Directory(b.Names()); err == nil {
			for _, name := range b.Names() {
				_, _ = b.Behind(files, name) // no panic
			}
		}
	})
}
