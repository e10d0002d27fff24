package demo

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/lockstep-dev/lockstep/internal/agent"
	"github.com/lockstep-dev/lockstep/internal/connector"
	"github.com/lockstep-dev/lockstep/internal/connector/file"
	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/internal/keys"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// app is the application of every environment as it is before Lockstep comes.
//
//go:embed app
var app embed.FS

// appFiles are the application's files by the names under which they are embedded.
var appFiles = map[string]string{"flags.json": "flags.json", "services.yaml": "services.yaml", "theme.json": "theme.json", "dotenv": ".env"}

// files says which resources the agent keeps in which file of the application. They change together or not at all.
var files = file.Config{
	Root: "app",
	Files: []file.File{
		{Path: "flags.json", Resources: []connector.Glob{"flag/*"}, Own: "file", At: "/flags"},
		{Path: "services.yaml", Resources: []connector.Glob{"endpoint/*", "connection/*"}, At: "/services"},
		{Path: "theme.json", Resources: []connector.Glob{"document/*"}},
		{Path: ".env", Resources: []connector.Glob{"variable/*", "secret/*"}, Key: "upper-snake"},
	},
}

// startAgent enrols the environment's agent, or finds its enrolment in a kept directory, and starts it beside the application.
func (d *demo) startAgent(ctx context.Context, environment string) error {
	dir := filepath.Join(d.Dir, environment)
	if err := installApp(filepath.Join(dir, "app")); err != nil {
		return err
	}
	enrolment, err := d.enrol(ctx, environment, filepath.Join(dir, "enrolment.yaml"))
	if err != nil {
		return err
	}
	desk, err := file.Open("desk", files, dir, environment+"/"+agentName)
	if err != nil {
		return err
	}
	d.group.Defer("files of "+environment, func(context.Context) error { return desk.Close() })
	router, err := connector.NewRouter([]connector.Route{{Resources: files.Resources(), Connector: desk}})
	if err != nil {
		return err
	}
	a, err := agent.New(agent.Options{
		Enrolment: enrolment, State: filepath.Join(dir, "agent-state"), Router: router, Log: d.Log,
		Secrets: agent.Secrets{Env: slices.Sorted(maps.Keys(secrets))},
	})
	if err != nil {
		return err
	}
	d.group.Go("agent of "+environment, a.Run)
	return nil
}

// installApp puts the application's own files where there are none.
func installApp(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for embedded, name := range appFiles {
		path := filepath.Join(dir, name)
		if _, err := os.Stat(path); err == nil {
			continue
		}
		content, err := app.ReadFile("app/" + embedded)
		if err != nil {
			return err
		}
		if err := os.WriteFile(path, content, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// enrol makes the agent's key, has the public half recorded, and writes the enrolment. The bus's port may be another one than when a
// kept enrolment was written.
func (d *demo) enrol(ctx context.Context, environment, path string) (*keys.Enrolment, error) {
	e, err := keys.ReadEnrolment(path)
	if err == nil {
		e.Bus.URL = d.publisher.BusURL()
		return e, nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	seed, err := keys.NewSeed()
	if err != nil {
		return nil, err
	}
	signer, err := events.NewSigner(seed)
	if err != nil {
		return nil, err
	}
	command := ledger.EnrolAgent{Environment: environment, Agent: agentName, Key: signer.Public()}
	if _, err := d.do(ctx, operator, "enrol-"+environment, command); err != nil {
		return nil, fmt.Errorf("enrol: %w", err)
	}
	e = &keys.Enrolment{Environment: environment, Agent: agentName, Seed: string(seed), Bus: keys.Bus{URL: d.publisher.BusURL()}}
	d.publisher.Read(func(s *ledger.State, _ fleet.Reports, _ time.Time) {
		head := s.Environments[environment].Fold
		e.Ledger, e.Head = s.ID, keys.Head{Revision: head.Revision, Chain: head.Chain}
		err = e.Pin(s.Trust())
	})
	if err == nil {
		e.Bus.JWT, err = d.publisher.Credentials(environment, agentName, signer.Public())
	}
	return e, errors.Join(err, e.Write(path))
}
