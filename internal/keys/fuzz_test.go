package keys

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"testing"

	"github.com/lockstep-dev/lockstep/pkg/events"
)

var seeds = regexp.MustCompile(`SU[A-Z2-7]{56}`)

// FuzzReadEnrolment: what is read as an enrolment is whole, and is written and read again as the same; an error never shows the seed.
func FuzzReadEnrolment(f *testing.F) {
	seed, err := NewSeed()
	if err != nil {
		f.Fatal(err)
	}
	signer, err := events.NewSigner(seed)
	if err != nil {
		f.Fatal(err)
	}
	dir := f.TempDir()
	e := Enrolment{Environment: "prod-eu", Agent: "one", Seed: string(seed), Ledger: "0123", Publishers: []string{signer.Public()}, Trust: events.Sum([]byte("trust")),
		Head: Head{7, events.Sum([]byte("head"))}, Bus: Bus{URL: "tls://bus.example.org:4222", CA: "ca.pem", Cert: "/etc/cert.pem", Key: "key.pem"}}
	if err := e.Write(filepath.Join(dir, "seed.yaml")); err != nil {
		f.Fatal(err)
	}
	whole, err := os.ReadFile(filepath.Join(dir, "seed.yaml"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	if err := e.Pin(&events.Trust{Version: 2, Approvals: events.ApprovalsAreNames, Publishers: e.Publishers}); err != nil {
		f.Fatal(err)
	}
	e.Bus.JWT, e.Bus.Authorities = "eyJ0eXAi.eyJzdWIi.c2lnbmF0dXJl", "-----BEGIN CERTIFICATE-----\n"
	if err := e.Write(filepath.Join(dir, "seed.yaml")); err != nil {
		f.Fatal(err)
	}
	guarded, err := os.ReadFile(filepath.Join(dir, "seed.yaml"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(guarded)
	f.Add(whole[:len(whole)/2])
	f.Add([]byte("apiVersion: lockstep/v1\nkind: Enrolment\nseed: [" + string(seed) + "\n"))
	f.Add([]byte("seed: " + string(seed) + "\nseed: " + string(seed) + "\n"))
	f.Add([]byte("<<: {seed: " + string(seed) + "}\nkind: *x\n"))
	f.Add([]byte(string(seed) + ": 1\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		dir := t.TempDir()
		path := filepath.Join(dir, "e.yaml")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := ReadEnrolment(path)
		if err != nil {
			for _, seed := range seeds.FindAllString(string(b), -1) {
				if regexp.MustCompile(seed).MatchString(err.Error()) {
					t.Fatalf("the error shows the seed: %v", err)
				}
			}
			return
		}
		if err := got.check(); err != nil {
			t.Fatal(err)
		}
		again := filepath.Join(dir, "again.yaml")
		if err := got.Write(again); err != nil {
			t.Fatal(err)
		}
		if read, err := ReadEnrolment(again); err != nil || !reflect.DeepEqual(read, got) {
			t.Fatalf("%+v became %+v, %v", got, read, err)
		}
	})
}
