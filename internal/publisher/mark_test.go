package publisher

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-dev/lockstep/internal/bus"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/internal/telemetry"
	"github.com/lockstep-dev/lockstep/pkg/events"
	"github.com/lockstep-dev/lockstep/pkg/fold/foldtest"
)

// aForgedAck is a ledger that ends with an ack which its agent has not signed: whoever checks signatures finds it.
func aForgedAck(t *testing.T) []bus.Stored {
	t.Helper()
	entries := aLedger(t)
	state := ledger.New(foldtest.Ledger)
	for _, e := range entries {
		if _, _, err := state.Apply(e.Payload, e.Stamp); err != nil {
			t.Fatal(err)
		}
	}
	r := state.Environments["dev"].Releases[0]
	a := events.Ack{Environment: "dev", Agent: "one", Ledger: state.ID, Number: 1, Word: events.WordApplied, First: 1, Last: 1, Chain: r.Chain, Expected: r.State, Observed: r.State, ReadBack: true}
	signed := func(by string) (payload []byte, signature string) {
		payload, signature, err := events.EncodeAck(a, state.Time, foldtest.Signer(t, by))
		if err != nil {
			t.Fatal(err)
		}
		return payload, signature
	}
	payload, signature := signed("one")
	d, err := state.Decide(ledger.Command{By: "publisher", Body: ledger.RecordDeliveries{Deliveries: []events.Delivery{
		{Environment: "dev", Agent: "one", Stamp: state.Time, Ack: payload, Signature: signature},
	}}}, state.Time.Add(time.Second))
	if err != nil {
		t.Fatal(err)
	}
	_, forged := signed("somebody else")
	entry := bytes.Replace(d.Entry, []byte(signature), []byte(forged), 1)
	return append(entries, bus.Stored{Sequence: state.Number + 1, Stamp: state.Time.Add(time.Second), Payload: entry})
}

// aCopy writes a copy, and the mark of a key that all of it is checked.
func aCopy(t *testing.T, entries []bus.Stored, by *events.Signer) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "ledger.copy")
	c, err := openCopy(path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.file.Close()
	c.signer, c.sum = by, unmarked().sum
	for _, e := range entries {
		if err := c.add(e); err != nil {
			t.Fatal(err)
		}
	}
	if err := (&book{copy: c}).mark(); err != nil {
		t.Fatal(err)
	}
	return path
}

// alter writes a file anew.
func alter(t *testing.T, path string, to func(whole string) string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	altered := to(string(b))
	if altered == string(b) {
		t.Fatalf("%s is not altered", path)
	}
	if err := os.WriteFile(path, []byte(altered), 0o600); err != nil {
		t.Fatal(err)
	}
}

func replacing(old, with string) func(string) string {
	return func(whole string) string { return strings.Replace(whole, old, with, 1) }
}

// started is the book of a copy as a start makes it, and how many of its entries were not checked again.
func started(t *testing.T, path string) (b *book, known uint64, err error) {
	t.Helper()
	c, err := openCopy(path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.file.Close()
	c.signer = foldtest.Signer(t, "publisher")
	b, err = newBook(c)
	return b, c.marked, err
}

func TestWhatAMarkNamesIsReadAsItWasChecked(t *testing.T) {
	entries := aForgedAck(t)
	b, known, err := started(t, aCopy(t, entries, foldtest.Signer(t, "publisher")))
	if err != nil || known != uint64(len(entries)) {
		t.Fatalf("%d of %d entries are known (%v)", known, len(entries), err)
	}
	if b.state.Number != known || b.state.Environments["dev"].Agents["one"].Position != 1 || len(b.hashes) != len(entries) {
		t.Errorf("%d entries, %d hashes", b.state.Number, len(b.hashes))
	}
	for i, e := range entries {
		if b.hashes[i] != events.Sum(e.Payload) {
			t.Errorf("entry %d has another hash", i+1)
		}
	}
}

// TestAMarkThatDoesNotFitIsNone: only what is, byte for byte, what this program of this publisher has checked is not checked again. The
// ledger here ends with a forged ack, which only its signature gives away.
func TestAMarkThatDoesNotFitIsNone(t *testing.T) {
	entries := aForgedAck(t)
	own, other := foldtest.Signer(t, "publisher"), foldtest.Signer(t, "another publisher")
	for name, damage := range map[string]func(path string){
		"missing":                func(path string) { _ = os.Remove(path + ".checked") },
		"torn":                   func(path string) { alter(t, path+".checked", func(s string) string { return s[:len(s)/2] }) },
		"empty":                  func(path string) { alter(t, path+".checked", func(string) string { return "" }) },
		"altered":                func(path string) { alter(t, path+".checked", replacing(`"entry":1`, `"entry":2`)) },
		"signed by another key":  func(path string) { alter(t, path+".checked", markOf(t, aCopy(t, entries, other))) },
		"of another ledger":      func(path string) { alter(t, path+".checked", markOf(t, aCopy(t, elsewhere(entries), own))) },
		"of another program":     func(path string) { alter(t, path+".checked", byAnotherProgram(t, own)) },
		"older than the forgery": func(path string) { alter(t, path+".checked", markOf(t, aCopy(t, entries[:len(entries)-1], own))) },
		"and the copy is altered": func(path string) {
			alter(t, path, replacing(`"reason":"why not"`, `"reason":"why now"`))
		},
		"and a stamp of the copy is altered":         func(path string) { alter(t, path, replacing("T12:00:01Z {", "T12:00:02Z {")) },
		"and the copy has a line more in its middle": func(path string) { alter(t, path, replacing("\n", "\n\n")) },
	} {
		t.Run(name, func(t *testing.T) {
			path := aCopy(t, entries, own)
			damage(path)
			if _, _, err := started(t, path); err == nil || !strings.Contains(err.Error(), "publisher ledger repair") {
				t.Errorf("a forged ack is believed: %v", err)
			}
		})
	}
	t.Run("newer than the copy", func(t *testing.T) {
		path := aCopy(t, entries, own)
		alter(t, path, func(s string) string { return s[:len(s)-1] }) // the last line is torn, and counts as none
		b, known, err := started(t, path)
		if err != nil || known != 0 || b.state.Number != uint64(len(entries)-1) {
			t.Errorf("%d entries are known of %d (%v)", known, b.state.Number, err)
		}
	})
	t.Run("an empty copy", func(t *testing.T) {
		path := aCopy(t, entries, own)
		alter(t, path, func(string) string { return "" })
		if b, known, err := started(t, path); err != nil || known != 0 || b.state.Number != 0 {
			t.Errorf("%d entries are known of %d (%v)", known, b.state.Number, err)
		}
	})
}

// markOf puts the mark of another copy in the place of one.
func markOf(t *testing.T, path string) func(string) string {
	t.Helper()
	b, err := os.ReadFile(path + ".checked")
	if err != nil {
		t.Fatal(err)
	}
	return func(string) string { return string(b) }
}

// elsewhere are the same entries of another ledger.
func elsewhere(entries []bus.Stored) (out []bus.Stored) {
	for _, e := range entries {
		e.Payload = bytes.ReplaceAll(e.Payload, []byte(foldtest.Ledger), bytes.Repeat([]byte("e"), len(foldtest.Ledger)))
		out = append(out, e)
	}
	return out
}

// byAnotherProgram is a mark that another version of the program made.
func byAnotherProgram(t *testing.T, by *events.Signer) func(string) string {
	return func(was string) string {
		payload, _, _ := strings.Cut(was, "\n")
		payload = strings.Replace(payload, `"program":"`+telemetry.Version(), `"program":"v0`, 1)
		signature, err := by.Sign(events.DomainMark, []byte(payload))
		if err != nil {
			t.Fatal(err)
		}
		return payload + "\n" + signature + "\n"
	}
}
