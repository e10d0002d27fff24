package publisher

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/lockstep-dev/lockstep/internal/bus"
)

// FuzzCopy reads a file as the publisher's copy of the ledger, and as a copy that a repair finds. Whatever is in it: entries are handed
// over one after the other, and are written and read again as the same; what is salvaged verifies, and every copy is described.
func FuzzCopy(f *testing.F) {
	var whole []byte
	entries := aLedger(f)
	for _, e := range entries {
		whole = append(whole, copiedLine(e)...)
	}
	lines := bytes.SplitAfter(whole, []byte("\n"))
	f.Add(whole)
	f.Add(whole[:len(whole)-7])
	f.Add(bytes.Join(append(lines[:2:2], lines[3:]...), nil))
	f.Add(bytes.Replace(whole, []byte("\n"), []byte("\n\n"), 1))
	f.Add(bytes.Replace(whole, []byte("prod"), []byte("qrod"), 1))
	f.Add(append(append([]byte(nil), whole...), "18446744073709551615 2026-03-01T12:00:00Z {}\n"...))
	f.Add(append(append([]byte(nil), lines[0]...), bytes.ReplaceAll(bytes.Replace(lines[1], []byte("2 "), []byte("9007199254740991 "), 1), []byte(`"number":2`), []byte(`"number":9007199254740991`))...))
	f.Add([]byte("0 2026-03-01T12:00:00Z {}\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		path := filepath.Join(t.TempDir(), "ledger.copy")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := openCopy(path)
		if err != nil {
			t.Fatal(err)
		}
		defer c.file.Close()
		var loaded []bus.Stored
		damage := c.load(unmarked(), func(s bus.Stored, _ bool) func() error {
			return func() error { loaded = append(loaded, s); return nil }
		})
		if c.last != uint64(len(loaded)) || c.size > int64(len(b)) {
			t.Fatalf("%d entries, the last is %d, %d of %d bytes", len(loaded), c.last, c.size, len(b))
		}
		for i, e := range loaded {
			again, err := parseCopied(copiedLine(e))
			if err != nil || e.Sequence != uint64(i+1) || again.Sequence != e.Sequence || !again.Stamp.Equal(e.Stamp) || !bytes.Equal(again.Payload, e.Payload) {
				t.Fatalf("%+v became %+v, %v", e, again, err)
			}
		}

		s := newSalvage()
		for _, name := range []string{"one", "two"} {
			if _, err := s.readFile(name, path); err != nil {
				t.Fatal(err)
			}
		}
		chains := s.chains()
		for _, chain := range chains {
			for i, e := range chain.entries {
				if e.Sequence != uint64(i+1) {
					t.Fatalf("entry %d stands at %d", e.Sequence, i+1)
				}
			}
			for _, held := range s.copies {
				if found := held.found(chain); found.Message == "" || found.Verified > uint64(len(chain.entries)) {
					t.Fatalf("%+v", found)
				}
			}
		}
		s.describe(chains)
		if damage == nil && bytes.HasPrefix(b, whole) && (len(chains) == 0 || len(chains[0].entries) < len(entries)) {
			t.Fatalf("a whole copy is not salvaged")
		}
	})
}

// An empty line, or a number that no ledger reaches, hides nothing of what a copy holds.
func TestNonsenseInACopyHidesNothing(t *testing.T) {
	entries := aLedger(t)
	file := []byte("\n")
	for _, e := range entries {
		file = append(append(file, copiedLine(e)...), "\n"...)
	}
	file = append(file, "18446744073709551615 2026-03-01T12:00:00Z {}\n"...)
	path := filepath.Join(t.TempDir(), "ledger.copy")
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
	s := newSalvage()
	c, err := s.readFile("copy", path)
	if err != nil {
		t.Fatal(err)
	}
	chains := s.chains()
	if len(chains) != 1 || len(chains[0].entries) != len(entries) {
		t.Fatalf("%d ledgers are found", len(chains))
	}
	if found := c.found(chains[0]); found.Verified != uint64(len(entries)) || c.whole(chains[0]) {
		t.Errorf("%+v", found)
	}
}
