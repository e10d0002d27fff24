package events_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"

	"github.com/lockstep-dev/lockstep/pkg/events"
	"github.com/lockstep-dev/lockstep/pkg/fold/foldtest"
)

// The golden vectors in testdata/v1 pin every byte that is signed, stored or chained. They are for other implementations too:
// payloads stand in them as strings, digests and signatures beside them.
//
//	go test ./pkg/events -run Golden -update
//
// writes them anew. A diff in an existing vector breaks every ledger and agent in the field: add a v2 directory (and a v2 type, or a
// new derivation) instead. canonical.json and names.json are written by hand and are never updated.
var update = flag.Bool("update", false, "write the golden vectors in testdata anew")

var epoch = time.Date(2026, 3, 1, 12, 0, 0, 123456000, time.UTC)

// golden compares v with the file as indented JSON.
func golden(t *testing.T, name string, v any) {
	t.Helper()
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join("testdata", "v1", name)
	if *update {
		if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b.Bytes(), want) {
		t.Errorf("%s: the wire contract has changed (read the comment above -update before anything else)\nhave %s", file, b.Bytes())
	}
}

func readVectors[T any](t *testing.T, name string) T {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "v1", name))
	if err != nil {
		t.Fatal(err)
	}
	var v T
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&v); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return v
}

// checkCloudEvent reads a payload with the CloudEvents SDK, as a stranger would.
func checkCloudEvent(t *testing.T, payload []byte) event.Event {
	t.Helper()
	var e event.Event
	if err := json.Unmarshal(payload, &e); err != nil {
		t.Fatal(err)
	}
	if err := e.Validate(); err != nil {
		t.Error(err)
	}
	if e.DataSchema() != events.SchemaURI(events.Type(e.Type())) {
		t.Errorf("%s has the schema %s", e.Type(), e.DataSchema())
	}
	return e
}

type entryVector struct {
	Type    events.Type `json:"type"` // of its one event
	Payload string      `json:"payload"`
	Hash    string      `json:"hash"` // SHA-256 of the payload: the next entry's previous
}

func TestGoldenEntries(t *testing.T) {
	var vectors []entryVector
	var previous events.Digest
	for i, f := range facts(t) {
		command := events.Command{ID: "0190f3a2-7c1e-7d3a-8b0a-00000000000" + string(rune('a'+i%6)), By: "ann", Digest: events.Sum([]byte(f.Type))}
		at := epoch.Add(time.Duration(i) * time.Second)
		traceparent := ""
		if i == 1 {
			traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
		}
		_, payload, err := events.NewEntry(uint64(i+1), previous, foldtest.Ledger, command, at, traceparent, []events.Fact{f})
		if err != nil {
			t.Fatal(err)
		}
		previous = events.Sum(payload)
		vectors = append(vectors, entryVector{f.Type, string(payload), previous.String()})
	}
	golden(t, "entries.json", vectors)
}

func TestGoldenEntriesAreReadAsTheyWereWritten(t *testing.T) {
	vectors := readVectors[[]entryVector](t, "entries.json")
	wrote := facts(t)
	for i, v := range vectors {
		e, err := events.DecodeEntry([]byte(v.Payload))
		if err != nil {
			t.Fatalf("%s: %v", v.Type, err)
		}
		if again, _ := events.Encode(e); string(again) != v.Payload {
			t.Errorf("%s: encodes as %s", v.Type, again)
		}
		data, err := events.DecodeFact(e.Events[0])
		if err != nil {
			t.Fatal(err)
		}
		diff(t, data, wrote[i].Data)
		raw, _ := events.Encode(e.Events[0])
		checkCloudEvent(t, raw)
	}
}

type releaseVector struct {
	Environment string `json:"environment"`
	Previous    string `json:"previous"`
	Payload     string `json:"payload"`
	Chain       string `json:"chain"`
	Header      string `json:"header"` // Lockstep-Signature
}

type releaseVectors struct {
	Ledger     string            `json:"ledger"`
	Publisher  string            `json:"publisher"`
	ChainStart map[string]string `json:"chainStart"` // of each environment
	Releases   []releaseVector   `json:"releases"`
}

// published is a story with releases of the three kinds, waves of one and of three.
func published(t testing.TB) (*foldtest.Publisher, []foldtest.Release) {
	p := foldtest.New(t)
	all := p.Trust("dev", "prod-eu", "prod-us")
	level := p.Change(
		foldtest.Set("dev", "variable/log-level", `"debug"`),
		foldtest.Set("prod-eu", "variable/log-level", `"info"`),
		foldtest.Set("prod-us", "variable/log-level", `"info"`),
		foldtest.Set("prod-us", "flag/checkout-redesign", `{"state":"ENABLED","variants":{"on":true,"off":false},"defaultVariant":"on"}`))
	all = append(all, level.Releases...)
	all = append(all, p.Change(foldtest.Delete("dev", "variable/log-level"), foldtest.Set("dev", "secret/crm-token", `{"ref":"file:/run/secrets/crm","note":"<&> \u2028 ü"}`)).Releases...)
	all = append(all, p.Rollback(level, "prod-eu", "prod-us")...)
	return p, append(all, p.Trust("dev")...)
}

func TestGoldenReleases(t *testing.T) {
	p, all := published(t)
	v := releaseVectors{Ledger: p.Ledger, Publisher: p.Signer.Public(), ChainStart: map[string]string{}}
	previous := map[string]string{}
	for _, name := range []string{"dev", "prod-eu", "prod-us"} {
		v.ChainStart[name] = events.ChainStart(p.Ledger, name).String()
		previous[name] = v.ChainStart[name]
	}
	for _, r := range all {
		v.Releases = append(v.Releases, releaseVector{r.Environment, previous[r.Environment], string(r.Payload), r.Chain.String(), r.Header})
		previous[r.Environment] = r.Chain.String()
	}
	golden(t, "releases.json", v)
}

func TestGoldenReleasesVerify(t *testing.T) {
	v := readVectors[releaseVectors](t, "releases.json")
	publisher := func(key string) bool { return key == v.Publisher }
	kinds := map[events.ReleaseKind]int{}
	for _, r := range v.Releases {
		payload := []byte(r.Payload)
		previous, err := events.ParseDigest(r.Previous)
		if err != nil {
			t.Fatal(err)
		}
		chain := events.Chain(previous, payload)
		if chain.String() != r.Chain {
			t.Errorf("%s: chain %s, want %s", r.Environment, chain, r.Chain)
		}
		if err := events.VerifyWave(v.Ledger, chain, r.Header, publisher); err != nil {
			t.Error(err)
		}
		release, e, err := events.DecodeRelease(payload)
		if err != nil {
			t.Fatal(err)
		}
		kinds[release.Kind]++
		again, err := events.EncodeRelease(release, e.Time, e.TraceParent)
		if err != nil || !bytes.Equal(again, payload) {
			t.Errorf("encodes as %s (%v)", again, err)
		}
		environment, revision, peeked, err := events.PeekRelease(payload)
		if err != nil || environment != r.Environment || revision != release.Revision || peeked != previous {
			t.Errorf("peeks as %s %d %s (%v)", environment, revision, peeked.Short(), err)
		}
		checkCloudEvent(t, payload)
	}
	if len(kinds) != 3 {
		t.Errorf("the vectors have the kinds %v", kinds)
	}
}

type statementVector struct {
	Type    events.Type   `json:"type"`
	Domain  events.Domain `json:"domain"`
	Key     string        `json:"key"`
	Payload string        `json:"payload"`
	Header  string        `json:"header"`
}

func TestGoldenStatements(t *testing.T) {
	agent, publisher := foldtest.Signer(t, "agent"), foldtest.Signer(t, "publisher")
	vector := func(kind events.Type, domain events.Domain, s *events.Signer) func([]byte, string, error) statementVector {
		return func(payload []byte, header string, err error) statementVector {
			if err != nil {
				t.Fatal(err)
			}
			return statementVector{kind, domain, s.Public(), string(payload), header}
		}
	}
	ack := vector(events.TypeReleaseAcknowledged, events.DomainAck, agent)
	beat := vector(events.TypeAgentBeat, events.DomainBeat, agent)
	pulse := vector(events.TypePublisherPulse, events.DomainPulse, publisher)
	vectors := []statementVector{}
	for _, a := range acks() {
		vectors = append(vectors, ack(events.EncodeAck(a, epoch, agent)))
	}
	vectors = append(vectors, beat(events.EncodeBeat(beats()[0], agent)), pulse(events.EncodePulse(aPulse(), publisher)))
	vectors = append(vectors, beat(events.EncodeBeat(beats()[1], agent)))
	golden(t, "statements.json", vectors)
}

func TestGoldenStatementsVerify(t *testing.T) {
	wroteAcks, wroteBeats := acks(), beats()
	for _, v := range readVectors[[]statementVector](t, "statements.json") {
		payload := []byte(v.Payload)
		checkCloudEvent(t, payload)
		switch v.Type {
		case events.TypeReleaseAcknowledged:
			a, err := events.DecodeAck(payload, v.Header, "prod-eu", "a1", v.Key)
			if err != nil {
				t.Fatal(err)
			}
			diff(t, a, wroteAcks[0])
			wroteAcks = wroteAcks[1:]
		case events.TypeAgentBeat:
			b, err := events.DecodeBeat(payload, v.Header, "prod-eu", "a1", v.Key)
			if err != nil {
				t.Fatal(err)
			}
			diff(t, b, wroteBeats[0])
			wroteBeats = wroteBeats[1:]
		case events.TypePublisherPulse:
			p, err := events.DecodePulse(payload, v.Header, func(key string) bool { return key == v.Key })
			if err != nil {
				t.Fatal(err)
			}
			diff(t, p, aPulse())
		}
	}
}

type leafVector struct {
	Operations       string   `json:"operations"` // as encoded
	OperationsDigest string   `json:"operationsDigest"`
	Inverse          string   `json:"inverse"` // as encoded
	InverseDigest    string   `json:"inverseDigest"`
	Leaf             string   `json:"leaf"` // as encoded
	Hash             string   `json:"hash"`
	Path             []string `json:"path"`
}

type changeVector struct {
	Digest string       `json:"digest"`
	Leaves []leafVector `json:"leaves"` // ordered by environment
}

func TestGoldenChange(t *testing.T) {
	var vector changeVector
	var leaves []events.Leaf
	for i, name := range []string{"dev", "prod-eu", "prod-us"} {
		base := events.Sum([]byte{byte(i)})
		operations := []events.Operation{
			{Op: events.OpSet, Key: "variable/log-level", Value: json.RawMessage(`"info"`), Base: base},
			{Op: events.OpDelete, Key: "endpoint/payments", Base: base},
			{Op: events.OpSet, Key: "document/Theme.v2", Value: json.RawMessage(`null`)},
		}
		inverse := []events.Inverse{
			{Op: events.OpSet, Key: "variable/log-level", Value: json.RawMessage(`"debug"`), Setter: base},
			{Op: events.OpSet, Key: "endpoint/payments", Value: json.RawMessage(`{"url":"https://pay.example/<&>"}`), Setter: base},
			{Op: events.OpDelete, Key: "document/Theme.v2"},
		}
		leaf := events.Leaf{Change: "c-1", Environment: name, Operations: operationsDigest(t, operations), Inverse: operationsDigest(t, inverse)}
		hash, err := leaf.Hash()
		if err != nil {
			t.Fatal(err)
		}
		leaves = append(leaves, leaf)
		vector.Leaves = append(vector.Leaves, leafVector{
			Operations: encode(t, operations), OperationsDigest: leaf.Operations.String(),
			Inverse: encode(t, inverse), InverseDigest: leaf.Inverse.String(),
			Leaf: encode(t, leaf), Hash: hash.String(),
		})
	}
	root, paths, err := events.ChangeDigest(leaves)
	if err != nil {
		t.Fatal(err)
	}
	vector.Digest = root.String()
	for i, path := range paths {
		for _, d := range path {
			vector.Leaves[i].Path = append(vector.Leaves[i].Path, d.String())
		}
	}
	golden(t, "change.json", vector)
}

type waveVector struct {
	Ledger  string   `json:"ledger"`
	Key     string   `json:"key"`
	Chains  []string `json:"chains"`
	Root    string   `json:"root"`
	Message string   `json:"message"` // what is signed, hexadecimal
	Headers []string `json:"headers"`
}

func TestGoldenWaves(t *testing.T) {
	signer := foldtest.Signer(t, "publisher")
	var vectors []waveVector
	for _, size := range []int{1, 2, 3, 5} {
		v := waveVector{Ledger: foldtest.Ledger, Key: signer.Public()}
		chains := make([]events.Digest, size)
		leaves := make([]events.Digest, size)
		for i := range chains {
			chains[i] = events.Sum([]byte{byte(size), byte(i)})
			leaves[i] = events.LeafHash(chains[i][:])
			v.Chains = append(v.Chains, chains[i].String())
		}
		root := events.MerkleRoot(leaves)
		v.Root = root.String()
		v.Message = hex.EncodeToString([]byte("lockstep wave v1\n"+foldtest.Ledger+"\n"+string(rune('0'+size))+"\n")) + v.Root
		headers, err := signer.SignWave(foldtest.Ledger, chains)
		if err != nil {
			t.Fatal(err)
		}
		v.Headers = headers
		vectors = append(vectors, v)

		message, _ := hex.DecodeString(v.Message)
		sig, err := events.ParseSignature(headers[0])
		if err != nil {
			t.Fatal(err)
		}
		checkEd25519(t, signer.Public(), message, sig.Bytes)
	}
	golden(t, "waves.json", vectors)
}
