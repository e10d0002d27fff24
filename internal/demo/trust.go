package demo

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/google/uuid"

	"github.com/lockstep-dev/lockstep/internal/bus/credentials"
	"github.com/lockstep-dev/lockstep/internal/keys"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/internal/publisher"
	"github.com/lockstep-dev/lockstep/internal/tracing"
	"github.com/lockstep-dev/lockstep/internal/trust"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// operator is the first administrator, who adds environments and enrols their agents.
const operator = "op"

// people are the others, with their roles in every environment.
var people = []struct {
	name  string
	roles []events.Role
}{
	{"anna", []events.Role{events.RoleAuthor, events.RoleApprover}},
	{"ben", []events.Role{events.RoleAuthor, events.RoleApprover, events.RoleReleaseManager}},
	{"carla", []events.Role{events.RoleAuthor, events.RoleApprover}},
	{"dora", []events.Role{events.RoleAuthor, events.RoleSteward}},
	{"olga", []events.Role{events.RoleBreakGlass}},
}

// found makes everybody's keys, the bus's credentials and the first trust document, with which the ledger begins; or finds those of a kept directory. A kept
// one without a document is of a ledger whose approvals are names, and goes on so.
func (d *demo) found() error {
	ring, err := filepath.Abs(filepath.Join(d.Dir, "keys"))
	if err != nil {
		return err
	}
	d.keys = keys.Ring(ring)
	data := filepath.Join(d.Dir, "publisher")
	path := filepath.Join(data, publisher.TrustFile)
	b, err := os.ReadFile(path)
	if err == nil {
		var document events.Trust
		err = events.DecodeStrict(bytes.TrimSpace(b), &document)
		d.ledger = document.Ledger
		return err
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if _, err := os.Stat(filepath.Join(data, "ledger.copy")); err == nil {
		return nil
	}
	if _, err := credentials.Make(data); err != nil && !errors.Is(err, fs.ErrExist) { // an earlier try made them
		return err
	}
	document, err := d.firstDocument(data)
	if err != nil {
		return err
	}
	if b, err = events.Encode(document); err != nil {
		return err
	}
	d.ledger = document.Ledger
	return os.WriteFile(path, append(b, '\n'), 0o644)
}

func (d *demo) firstDocument(data string) (*events.Trust, error) {
	releases, err := keys.OpenKey(filepath.Join(data, "publisher.key"), nil)
	if err != nil {
		return nil, err
	}
	root, err := keys.OpenKey(filepath.Join(d.Dir, "root.key"), nil)
	if err != nil {
		return nil, err
	}
	op, err := d.keys.Open(operator)
	if err != nil {
		return nil, err
	}
	before := &events.Trust{Ledger: uuid.NewString(), Publishers: []string{releases.Public()}}
	document, err := trust.First(before, events.Roots{Keys: []string{root.Public()}, Threshold: 1}, operator, op.Key)
	if err != nil {
		return nil, err
	}
	for _, p := range people {
		k, err := d.keys.Open(p.name)
		if err != nil {
			return nil, err
		}
		if err := trust.Add(p.name, k.Key, p.roles, []string{"*"})(document); err != nil {
			return nil, err
		}
	}
	sig, err := document.SignRoot(root)
	if err != nil {
		return nil, err
	}
	document.Signatures = []events.RootSignature{sig}
	return document, document.CheckSuccession(nil)
}

// do carries out a command under a fixed id: a demo on a kept directory does nothing twice. It is signed with the person's key.
func (d *demo) do(ctx context.Context, by, id string, body ledger.Body) (ledger.Outcome, error) {
	command := ledger.Command{ID: "demo-" + id, By: by, Body: body, TraceParent: tracing.Parent(ctx)}
	if d.ledger == "" {
		return d.publisher.Do(ctx, command, false)
	}
	k, err := d.keys.Read(by)
	if err != nil {
		return ledger.Outcome{}, err
	}
	return trust.Pen{Ledger: d.ledger, Signer: k.Signer, Clock: time.Now}.Do(ctx, d.publisher, command)
}
