package agent

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-dev/lockstep/internal/bus"
	"github.com/lockstep-dev/lockstep/pkg/events"
	"github.com/lockstep-dev/lockstep/pkg/fold/foldtest"
)

// FuzzPending: whatever the file of an apply under way holds, what is read from it is the publisher's next releases, or nothing.
func FuzzPending(f *testing.F) {
	p := foldtest.New(f)
	releases := append(p.Trust("prod"), p.Change(foldtest.Set("prod", "variable/a", `1`)).Releases...)
	releases = append(releases, p.Change(foldtest.Set("prod", "variable/a", `2`)).Releases...)
	start := bus.Position{Chain: events.ChainStart(p.Ledger, "prod")}
	verify := func(chain events.Digest, signature string) error {
		for _, r := range releases {
			if r.Chain == chain && r.Header == signature {
				return nil
			}
		}
		return errors.New("not signed")
	}
	var run bus.Run
	for i, r := range releases {
		run = append(run, bus.Release{Revision: uint64(i + 1), Chain: r.Chain, Stored: bus.Stored{Payload: r.Payload, Signature: r.Header}})
	}
	dir := f.TempDir()
	for n := 1; n <= len(run); n++ {
		var links []link
		for _, r := range run[:n] {
			links = append(links, link{release: received{Release: r}})
		}
		if err := writePending(dir, links, nil); err != nil {
			f.Fatal(err)
		}
		b, err := os.ReadFile(filepath.Join(dir, pendingFile))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, 0)
		f.Add(b[:len(b)-3], 1)
		f.Add(bytes.Replace(b, []byte(`:1`), []byte(`:3`), 1), 0)
	}
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01}, 0)
	f.Add([]byte{0, 0}, 0)
	f.Fuzz(func(t *testing.T, b []byte, at int) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, pendingFile), b, 0o600); err != nil {
			t.Fatal(err)
		}
		from := start
		if n := max(at, 0) % (len(run) + 1); n > 0 {
			from = run[:n].Position()
		}
		got, err := readPending(dir, from, verify)
		if err != nil {
			return
		}
		for i, r := range got {
			want := run[int(from.Revision)+i]
			if r.Revision != want.Revision || r.Chain != want.Chain || !bytes.Equal(r.Payload, want.Payload) {
				t.Fatalf("revision %d was read as %d, %s", want.Revision, r.Revision, r.Payload)
			}
		}
	})
}

// FuzzHoldRequest: an order to hold is one for a time to come, with a reason, and is read as it is written; or it says what is wrong.
func FuzzHoldRequest(f *testing.F) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for _, seed := range []string{
		`{"until":"2026-03-01T13:00:00Z","reason":"release party"}`, `{"until":"2026-03-01T11:00:00Z","reason":"too late"}`, `{"reason":"for ever"}`, `{}`, `null`, ``,
		`{"until":"2026-03-01T13:00:00Z"}`, `{"until":"2026-03-01T13:00:00Z","reason":"x"} {}`, `{"until":"2026-03-01T13:00:00Z","reason":"x","for":"1h"}`, `{"until":"+292277026596-12-04T15:30:07Z"}`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, body string) {
		h, err := readHold(strings.NewReader(body), now)
		if err != nil {
			return
		}
		if !h.Until.After(now) || h.Reason == "" {
			t.Fatalf("held until %s for %q", h.Until, h.Reason)
		}
		again, err := json.Marshal(h)
		if err != nil {
			t.Fatal(err)
		}
		if read, err := readHold(bytes.NewReader(again), now); err != nil || !read.Until.Equal(h.Until) || read.Reason != h.Reason {
			t.Fatalf("%+v became %+v, %v", h, read, err)
		}
	})
}
