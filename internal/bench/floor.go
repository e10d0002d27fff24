package bench

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/lockstep-dev/lockstep/internal/bus"
	"github.com/lockstep-dev/lockstep/internal/bus/bare"
	"github.com/lockstep-dev/lockstep/internal/bus/embedded"
	"github.com/lockstep-dev/lockstep/internal/lifecycle"
	"github.com/lockstep-dev/lockstep/pkg/events"
	"github.com/lockstep-dev/lockstep/pkg/store"
)

// An envelope is a CloudEvent with its data in one struct: one encode, one decode.
type envelope[T any] struct {
	SpecVersion     string      `json:"specversion"`
	ID              string      `json:"id"`
	Source          string      `json:"source"`
	Type            events.Type `json:"type"`
	Subject         string      `json:"subject"`
	Time            time.Time   `json:"time"`
	DataContentType string      `json:"datacontenttype"`
	DataSchema      string      `json:"dataschema"`
	Sequence        string      `json:"sequence"`
	PartitionKey    string      `json:"partitionkey"`
	CorrelationID   string      `json:"correlationid"`
	CausationID     string      `json:"causationid"`
	RecordedTime    time.Time   `json:"recordedtime"`
	Data            T           `json:"data"`
}

func enclose[T any](t events.Type, environment string, revision uint64, data T) envelope[T] {
	now := time.Now().UTC()
	return envelope[T]{
		SpecVersion: "1.0", ID: events.ReleaseID(environment, revision), Source: events.LedgerSource(bareLedger), Type: t, Subject: environment,
		Time: now, DataContentType: "application/json", DataSchema: events.SchemaURI(t), Sequence: fmt.Sprintf("%020d", revision),
		PartitionKey: environment, CorrelationID: "c1", CausationID: events.EntryID(revision), RecordedTime: now, Data: data,
	}
}

const bareLedger = "00000000-0000-4000-8000-000000000000"

// A floor is a bare bus, a bare publisher and bare agents.
type floor struct {
	conn     *bare.Conn
	agents   []*bareAgent
	key      ed25519.PrivateKey
	ledger   uint64 // last sequence
	revision uint64
	waiting  atomic.Int64 // acks of the round that are not there
	arrived  chan struct{}
	failed   chan error
}

// A bareAgent applies what it gets.
type bareAgent struct {
	name     string
	sequence uint64        // of its subject, at the publisher
	sent     events.Digest // chain digest, at the publisher
	chain    events.Digest // at the agent
	public   ed25519.PublicKey
	key      ed25519.PrivateKey
	file     replaced
	store    *store.Store
	conn     *bare.Conn
}

// newFloor starts the floor. Its parts end with the group.
func newFloor(ctx context.Context, g *lifecycle.Group, dir, agentsDir string, n int) (*floor, error) {
	server, err := embedded.Start(embedded.Options{StoreDir: filepath.Join(dir, "bare-bus"), Log: zerolog.Nop()})
	if err != nil {
		return nil, err
	}
	g.Defer("bare bus", func(context.Context) error { server.Shutdown(); return nil })
	if err := makeStreams(ctx, server.ClientURL()); err != nil {
		return nil, err
	}
	f := &floor{arrived: make(chan struct{}, 1), failed: make(chan error, 1)}
	if _, f.key, err = ed25519.GenerateKey(nil); err != nil {
		return nil, err
	}
	if f.conn, err = bare.Dial(server.ClientURL()); err != nil {
		return nil, err
	}
	g.Defer("bare publisher", func(context.Context) error { f.conn.Close(); return nil })
	byName := map[string]*bareAgent{}
	for i := range n {
		a, err := f.newAgent(g, server.ClientURL(), filepath.Join(agentsDir, "bare-"+environmentName(i)), environmentName(i))
		if err != nil {
			return nil, err
		}
		f.agents = append(f.agents, a)
		byName[a.name] = a
	}
	stop, err := f.conn.Follow(ctx, events.StreamAcks, func(subject string, payload []byte, signature string) {
		name, _, _ := events.AgentOf(subject)
		if err := f.acknowledged(byName[name], payload, signature); err != nil {
			f.fail(err)
		}
	})
	if err != nil {
		return nil, err
	}
	g.Defer("bare acks", func(context.Context) error { stop(); return nil })
	return f, nil
}

// makeStreams makes the streams as the product has them.
func makeStreams(ctx context.Context, url string) error {
	conn, err := bus.Connect(ctx, bus.Options{Name: "bench", URL: url})
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = conn.EnsureStreams(ctx, bus.StreamOptions{})
	return err
}

func (f *floor) newAgent(g *lifecycle.Group, url, dir, name string) (*bareAgent, error) {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	a := &bareAgent{name: name, file: replaced{dir: dir}}
	var err error
	if a.public, a.key, err = ed25519.GenerateKey(nil); err != nil {
		return nil, err
	}
	if a.store, err = store.Open(filepath.Join(dir, "agent.db"), store.Identity{Ledger: bareLedger, Environment: name, Agent: agentName}); err != nil {
		return nil, err
	}
	g.Defer("bare store", func(context.Context) error { return a.store.Close() })
	if a.conn, err = bare.Dial(url); err != nil {
		return nil, err
	}
	g.Defer("bare agent", func(context.Context) error { a.conn.Close(); return nil })
	return a, a.conn.Listen(events.LiveSubject(name), func(payload []byte, signature string) {
		if err := a.apply(f.key.Public().(ed25519.PublicKey), payload, signature); err != nil {
			f.fail(fmt.Errorf("bare agent %s: %w", name, err))
		}
	})
}

func (f *floor) fail(err error) {
	select {
	case f.failed <- err:
	default:
	}
}

// round takes one change to all agents and returns how long that took.
func (f *floor) round(ctx context.Context) (time.Duration, error) {
	f.revision++
	f.waiting.Store(int64(len(f.agents)))
	began := time.Now()
	messages := make([]bare.Message, len(f.agents))
	leaves := make([]events.Digest, len(f.agents))
	wave := events.Wave{Derivation: 1}
	for i, a := range f.agents {
		payload, err := json.Marshal(enclose(events.TypeReleasePublished, a.name, f.revision, f.release(a)))
		if err != nil {
			return 0, err
		}
		a.sent = events.Chain(a.sent, payload)
		leaves[i] = events.LeafHash(a.sent[:])
		messages[i] = bare.Message{Subject: events.ReleaseSubject(a.name), Payload: payload, Expected: a.sequence}
		wave.Releases = append(wave.Releases, events.ReleaseRef{Environment: a.name, Revision: f.revision, Chain: a.sent})
	}
	entry, err := json.Marshal(enclose(events.TypeWaveReleased, "", f.revision, events.WaveReleased{Change: "c1", Number: 1, Wave: wave}))
	if err != nil {
		return 0, err
	}
	if f.ledger, err = f.conn.Append(ctx, entry, f.ledger); err != nil {
		return 0, err
	}
	root, paths := events.MerklePaths(leaves)
	signature := ed25519.Sign(f.key, root[:])
	for i := range messages {
		messages[i].Signature = place{uint64(i), uint64(len(leaves)), paths[i]}.header(signature)
	}
	sequences, err := f.conn.Publish(ctx, messages)
	if err != nil {
		return 0, err
	}
	for i, a := range f.agents {
		a.sequence = sequences[i]
	}
	select {
	case <-f.arrived:
		return time.Since(began), nil
	case err := <-f.failed:
		return 0, err
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
}

// release is one like the product's.
func (f *floor) release(a *bareAgent) events.Release {
	var path []events.Digest
	for n := 1; n < len(f.agents); n *= 2 {
		path = append(path, a.sent)
	}
	filler := events.Sum([]byte(a.name))
	return events.Release{
		Kind: events.KindChange, Environment: a.name, Revision: f.revision, Previous: a.sent, Ledger: bareLedger, Entry: f.ledger + 1, Derivation: 1, State: filler,
		Change: &events.ReleasedChange{
			ID: "c1", Digest: filler, Author: author, Reason: reason, Inverse: filler, Size: uint64(len(f.agents)), Path: path,
			Approvals: []events.Approval{{By: approver, At: time.Now().UTC()}},
		},
		Operations: []events.Operation{{Op: events.OpSet, Key: changedKey, Value: roundValue(f.revision), Base: filler}},
	}
}

// A place is where a release is in its wave.
type place struct {
	index, size uint64
	path        []events.Digest
}

func (p place) header(signature []byte) string {
	b := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, p.index), p.size)
	b = append(b, signature...)
	for _, d := range p.path {
		b = append(b, d[:]...)
	}
	return base64.RawStdEncoding.EncodeToString(b)
}

// checkWave says whether the publisher signed a wave that holds a chain digest.
func checkWave(public ed25519.PublicKey, chain events.Digest, header string) error {
	b, err := base64.RawStdEncoding.DecodeString(header)
	if err != nil || len(b) < 16+ed25519.SignatureSize {
		return errors.New("a header that is none")
	}
	index, size, signature := binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:]), b[16:16+ed25519.SignatureSize]
	var path []events.Digest
	for b = b[16+ed25519.SignatureSize:]; len(b) > 0; b = b[len(events.Digest{}):] {
		path = append(path, events.Digest(b[:len(events.Digest{})]))
	}
	root, ok := events.RootFromPath(events.LeafHash(chain[:]), index, size, path)
	if !ok || !ed25519.Verify(public, root[:], signature) {
		return errors.New("a signature that is none")
	}
	return nil
}

// apply is all that an agent does with a release.
func (a *bareAgent) apply(publisher ed25519.PublicKey, payload []byte, signature string) error {
	var e envelope[events.Release]
	if err := json.Unmarshal(payload, &e); err != nil {
		return err
	}
	a.chain = events.Chain(a.chain, payload)
	if err := checkWave(publisher, a.chain, signature); err != nil {
		return err
	}
	if err := a.file.replace(e.Data.Operations[0].Value); err != nil {
		return err
	}
	if err := commit(a.store, e.Data.Revision); err != nil {
		return err
	}
	now := time.Now().UTC()
	ack, err := json.Marshal(enclose(events.TypeReleaseAcknowledged, a.name, e.Data.Revision, events.Ack{
		Environment: a.name, Agent: agentName, Ledger: bareLedger, Number: e.Data.Revision, Word: events.WordApplied, First: e.Data.Revision, Last: e.Data.Revision,
		Chain: a.chain, Expected: e.Data.State, Observed: e.Data.State, ReadBack: true,
		Phases: events.Phases{Received: now, Verified: now, Applied: now, Committed: now},
	}))
	if err != nil {
		return err
	}
	return a.conn.Send(context.Background(), bare.Message{
		Subject: events.AckSubject(a.name, agentName), Payload: ack, Signature: base64.RawStdEncoding.EncodeToString(ed25519.Sign(a.key, ack)),
	})
}

// acknowledged is all that the publisher does with an ack.
func (f *floor) acknowledged(a *bareAgent, payload []byte, signature string) error {
	b, err := base64.RawStdEncoding.DecodeString(signature)
	if err != nil || !ed25519.Verify(a.public, payload, b) {
		return errors.New("an ack that is not signed")
	}
	var e envelope[events.Ack]
	if err := json.Unmarshal(payload, &e); err != nil {
		return err
	}
	if f.waiting.Add(-1) == 0 {
		f.arrived <- struct{}{}
	}
	return nil
}

// commit is one bbolt commit of one small record.
func commit(s *store.Store, n uint64) error {
	return s.Update(func(tx *store.Tx) error { return tx.SetTip(&store.Tip{Counter: n}) })
}

// A replaced file lies in a directory of its own.
type replaced struct{ dir string }

// replace puts a new file in the place of the old one, durably.
func (r replaced) replace(value json.RawMessage) error {
	var text strings.Builder
	text.WriteString("{\n")
	for i := range keysPerAgent - 1 {
		fmt.Fprintf(&text, "  %q: %s,\n", fmt.Sprintf("v%d", i), unchanged)
	}
	fmt.Fprintf(&text, "  \"changed\": %s\n}\n", value)
	path := filepath.Join(r.dir, "config.json")
	file, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = file.WriteString(text.String())
	if err := errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	dir, err := os.Open(r.dir)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
