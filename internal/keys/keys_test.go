package keys_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lockstep-dev/lockstep/internal/keys"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

func enrolment(t *testing.T) *keys.Enrolment {
	t.Helper()
	seed, err := keys.NewSeed()
	must(t, err)
	e := &keys.Enrolment{Environment: "prod-eu", Agent: "one", Seed: string(seed), Ledger: "6f1f9ac2-5d0c-4a0e-9d5b-2f1a3c4d5e6f",
		Trust: events.Sum([]byte("trust")), Head: keys.Head{Revision: 12, Chain: events.Sum([]byte("chain"))}, Bus: keys.Bus{URL: "nats://127.0.0.1:4222"}}
	signer, err := e.Signer()
	must(t, err)
	e.Publishers = []string{signer.Public()}
	return e
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestAnEnrolmentIsReadAsItWasWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "one.enrolment")
	want := enrolment(t)
	want.Bus.CA = "/etc/ca.pem"
	must(t, want.Write(path))
	got, err := keys.ReadEnrolment(path)
	must(t, err)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	info, err := os.Stat(path)
	must(t, err)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
}

// guarded is an enrolment with everything in it.
func guarded(t *testing.T) *keys.Enrolment {
	t.Helper()
	e := enrolment(t)
	must(t, e.Pin(&events.Trust{Version: 3, Approvals: events.ApprovalsAreNames, Publishers: e.Publishers}))
	e.Bus.JWT = "eyJ0eXAiOiJKV1QifQ.eyJzdWIiOiJVQSJ9.c2lnbmF0dXJlLXNpZ25hdHVyZS1zaWduYXR1cmUtc2lnbmF0dXJl"
	e.Bus.Authorities = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
	return e
}

func TestAnEnrolmentCarriesItsTrustDocumentWhole(t *testing.T) {
	path := filepath.Join(t.TempDir(), "one.enrolment")
	want := guarded(t)
	must(t, want.Write(path))
	got, err := keys.ReadEnrolment(path)
	must(t, err)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	document, err := got.Pinned()
	must(t, err)
	if document.Version != 3 || len(document.Publishers) != 1 {
		t.Errorf("%+v", document)
	}
	old := enrolment(t)
	if document, err := old.Pinned(); document != nil || err != nil {
		t.Errorf("a file without one: %v, %v", document, err)
	}
	for name, change := range map[string]func(*keys.Enrolment){
		"another version":   func(e *keys.Enrolment) { e.Document = strings.Replace(e.Document, `"version":3`, `"version":2`, 1) },
		"another publisher": func(e *keys.Enrolment) { e.Publishers = []string{"UA"} },
		"another digest":    func(e *keys.Enrolment) { e.Trust = events.Sum([]byte("x")) },
		"unknown field":     func(e *keys.Enrolment) { e.Document = `{"more":1,` + e.Document[1:] },
		"two documents":     func(e *keys.Enrolment) { e.Document += e.Document },
		"no JWT":            func(e *keys.Enrolment) { e.Bus.JWT = "nonsense" },
		"two credentials":   func(e *keys.Enrolment) { e.Bus.Credentials = "x.creds" },
	} {
		e := guarded(t)
		change(e)
		if err := e.Write(path); err == nil || strings.Contains(err.Error(), e.Seed[2:]) || strings.Contains(err.Error(), "eyJ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestEditingAnEnrolmentLeavesItsPathsAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "one.enrolment")
	e := enrolment(t)
	e.Bus.CA = "ca.pem"
	must(t, e.Write(path))
	must(t, keys.EditEnrolment(path, func(e *keys.Enrolment) error { e.Bus.JWT = guarded(t).Bus.JWT; return nil }))
	b, err := os.ReadFile(path)
	must(t, err)
	if !strings.Contains(string(b), "ca: ca.pem\n") || !strings.Contains(string(b), "jwt: eyJ") {
		t.Errorf("%s", b)
	}
}

func TestPathsInAnEnrolmentAreRelativeToIt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "one.enrolment")
	e := enrolment(t)
	e.Bus.CA = "ca.pem"
	must(t, e.Write(path))
	got, err := keys.ReadEnrolment(path)
	must(t, err)
	if want := filepath.Join(filepath.Dir(path), "ca.pem"); got.Bus.CA != want {
		t.Errorf("ca %s, want %s", got.Bus.CA, want)
	}
}

func TestAnEnrolmentThatIsNotWholeIsRefusedWithoutShowingItsSeed(t *testing.T) {
	for name, c := range map[string]struct{ old, new, want string }{
		"unknown field": {"agent:", "agnet:", "agnet"},
		"no ledger":     {"ledger: ", "ledger: \"\" #", "ledger is missing"},
		"bad name":      {"prod-eu", "Prod_EU", "environment"},
		"bad seed":      {"seed: SU", "seed: SA", "seed is no user nkey seed"},
		"broken seed":   {"seed: SU", "seed: [SU", ""},
		"other kind":    {"kind: Enrolment", "kind: Agent", "kind Enrolment"},
		"no head":       {"revision: 12", "revision: 0", "head is missing"},
		"broken JWT":    {"  url:", "  jwt: [" + guarded(t).Bus.JWT + "\n  url:", ""},
		"short digest":  {"trust: ", "trust: aa #", "digest"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "one.enrolment")
			e := enrolment(t)
			must(t, e.Write(path))
			b, err := os.ReadFile(path)
			must(t, err)
			changed := strings.Replace(string(b), c.old, c.new, 1)
			if changed == string(b) {
				t.Fatalf("%q is not in the file:\n%s", c.old, b)
			}
			must(t, os.WriteFile(path, []byte(changed), 0o600))
			_, err = keys.ReadEnrolment(path)
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), e.Seed[2:]) || strings.Contains(err.Error(), "eyJ0") {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestSecretFilesThatOthersCanReadAreRefused(t *testing.T) {
	dir := t.TempDir()
	enrolmentPath, keyPath := filepath.Join(dir, "e"), filepath.Join(dir, "k")
	e := enrolment(t)
	must(t, e.Write(enrolmentPath))
	must(t, keys.WriteKey(keyPath, []byte(e.Seed), nil))
	for _, path := range []string{enrolmentPath, keyPath} {
		must(t, os.Chmod(path, 0o640))
	}
	if _, err := keys.ReadEnrolment(enrolmentPath); !errors.Is(err, keys.ErrExposed) || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("enrolment: %v", err)
	}
	if _, err := keys.ReadKey(keyPath); !errors.Is(err, keys.ErrExposed) {
		t.Errorf("key: %v", err)
	}
}

func TestAKeyFileIsReadAsItWasWrittenAndNeverOverwritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "publisher.key")
	seed, err := keys.NewSeed()
	must(t, err)
	must(t, keys.WriteKey(path, seed, nil))
	signer, err := keys.ReadKey(path)
	must(t, err)
	want, err := events.NewSigner(seed)
	must(t, err)
	if signer.Public() != want.Public() {
		t.Error("another key")
	}
	if err := keys.WriteKey(path, seed, nil); !errors.Is(err, fs.ErrExist) {
		t.Errorf("overwritten: %v", err)
	}
}
