package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lockstep-dev/lockstep/internal/config"
	"github.com/lockstep-dev/lockstep/internal/console"
	"github.com/lockstep-dev/lockstep/internal/exchange"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/internal/registry"
	"github.com/lockstep-dev/lockstep/internal/secretscan"
)

// An importing is what import is asked to do.
type importing struct {
	from, environment, into string
	secretRefs, dryRun      bool
}

func importCommand(c *cli) *cobra.Command {
	var i importing
	cmd := &cobra.Command{
		Use:   "import (--from FORMAT FILE... --env NAME | BUNDLE [--env NAME]) (--into DIR | --dry-run)",
		Short: "Take an existing application's values, or a bundle, over as manifests",
		Long: `Read the values of an environment from files of another tool, and write the manifests that a directory lacks for it: a new file
NAME-FORMAT.yaml in the directory, which may be new too. No file is changed. In the first environment of a directory the values are the
defaults; a second one gets a manifest that says what is different there. Where the directory declares the environment already and gives
a resource another value, that is a conflict, and nothing is written. Afterwards the directory comes to exactly the imported values there.

  flagd       flags, and as document/flagd what the file says beside them
  dotenv      variables; references to variables before them are resolved
  configmap   variables; binary data is refused
  json        an object: resources by key (variable/log-level), or names of variables

A value that looks like a secret is refused. With --secret-refs a reference to an environment variable of the agent takes its place:
give the agent that variable before the change is released. --dry-run compares with what is released, and writes nothing.

Without --from the file is a bundle of 'publisher export'. Its digests are proven; its manifests go into a directory without any, for all its
environments or the one that --env names, and quick edits, which no manifest holds, are named.`,
		Example: `  publisher import --from dotenv .env --env dev --into environments/
  publisher import --from flagd demo.flagd.json --env dev --into environments/
  publisher import --from dotenv prod.env --env prod-eu --dry-run
  publisher import bundle.json --dry-run`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if i.from != "" {
				if err := oneOfFormats(cmd, "from", i.from, exchange.Imports); err != nil {
					return err
				}
				if err := named(cmd, "env", i.environment, "--env NAME"); err != nil {
					return err
				}
			} else if len(args) > 1 || i.secretRefs {
				return console.Usage(cmd, "a bundle comes alone, and as it is; for other files say which format with --from: %s", strings.Join(exchange.Imports, ", "))
			}
			if i.into == "" && !i.dryRun {
				return console.Usage(cmd, "say where to write the manifests with --into DIR, or only compare with --dry-run")
			}
			if err := notTogether(cmd, "into", "dry-run"); err != nil {
				return err
			}
			if i.from == "" {
				return c.importBundle(cmd, i, args[0])
			}
			values, err := c.readValues(i.from, args)
			if err != nil {
				return err
			}
			if i.dryRun {
				return c.compareImport(cmd, i, values)
			}
			return c.writeImport(i, values)
		},
	}
	f := cmd.Flags()
	f.StringVar(&i.from, "from", "", "read `FORMAT`: "+strings.Join(exchange.Imports, ", "))
	f.StringVar(&i.environment, "env", "", "environment `NAME` whose values they are")
	f.StringVar(&i.into, "into", "", "write the manifests into directory `DIR`")
	f.BoolVar(&i.secretRefs, "secret-refs", false, "write references in the place of what looks like a secret")
	f.BoolVar(&i.dryRun, "dry-run", false, "only compare with what is released in the environment")
	_ = cmd.MarkFlagDirname("into")                                                                                          // the flag is there
	_ = cmd.RegisterFlagCompletionFunc("from", cobra.FixedCompletions(exchange.Imports, cobra.ShellCompDirectiveNoFileComp)) // so is this
	complete(cmd, "env", c.completeEnvironments)
	return cmd
}

// readValues reads files that belong together.
func (c *cli) readValues(format string, paths []string) (exchange.Values, error) {
	all := exchange.Values{}
	for _, path := range paths {
		name, data, err := c.readImport(path)
		if err != nil {
			return nil, err
		}
		values, notes, err := exchange.Import(format, name, data)
		if err != nil {
			if _, located := errors.AsType[*config.Error](err); !located {
				err = fmt.Errorf("%s: %w", name, err)
			}
			return nil, &ledger.Error{Kind: ledger.KindInvalid, Message: err.Error(), Cause: err}
		}
		for _, key := range slices.Sorted(maps.Keys(values)) {
			if _, twice := all[key]; twice {
				return nil, &ledger.Error{Kind: ledger.KindInvalid, Message: fmt.Sprintf("%s: %s stands in a file before it too", name, key), Next: "keep one of them"}
			}
			all[key] = values[key]
		}
		c.remarks(notes)
	}
	return all, nil
}

// readImport reads a file whole, or not at all.
func (c *cli) readImport(path string) (string, []byte, error) {
	name, data, err := c.readAtMost(path, registry.MaxTotal+1)
	if err == nil && len(data) > registry.MaxTotal {
		err = &ledger.Error{Kind: ledger.KindInvalid, Message: fmt.Sprintf("%s has more than %d bytes", name, registry.MaxTotal), Next: "import it in parts"}
	}
	return name, data, err
}

// writeImport writes the manifests that a directory lacks.
func (c *cli) writeImport(i importing, values exchange.Values) error {
	var files []registry.File
	if isDirectory(i.into) {
		root, err := os.OpenRoot(i.into)
		if err != nil {
			return err
		}
		defer root.Close()
		if files, err = registry.Load(root.FS(), i.into); err != nil && !errors.Is(err, registry.ErrNoManifests) {
			return &ledger.Error{Kind: ledger.KindInvalid, Message: err.Error(), Cause: err}
		}
	}
	dir, err := (&ledger.Directory{Files: files}).Sources()
	if err != nil {
		return err
	}
	if err := c.noSecretValues(dir, values, i.secretRefs); err != nil {
		return err
	}
	t := registry.Target{Name: i.environment}
	if declared, err := target(dir, i.environment); err == nil {
		t = declared
	}
	text, conflicts, err := exchange.Manifests(files, t, i.from, values)
	if errors.Is(err, exchange.ErrNothing) {
		c.note("nothing is written: %v", err)
		return nil
	}
	if err != nil {
		return &ledger.Error{Kind: ledger.KindInvalid, Message: err.Error(), Cause: err}
	}
	if len(conflicts) > 0 {
		for _, conflict := range conflicts {
			c.line("%s: %s has another value in %s", conflict.Place, conflict.Key, i.environment)
		}
		return &ledger.Error{Kind: ledger.KindConflict, Message: fmt.Sprintf("%s would change, and nothing was written", plural(len(conflicts), "resource", "resources")), Next: "write the value that is meant there, or leave it out of the file"}
	}
	path := filepath.Join(i.into, i.environment+"-"+i.from+".yaml")
	if err := os.MkdirAll(i.into, 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return console.Exit(console.ExitFailure, path+" is there already, and nothing was written; rename it")
	}
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	c.note("wrote %s for %s into %s; see 'publisher check -f %s' and 'publisher diff -f %s'", plural(len(values), "value", "values"), i.environment, path, i.into, i.into)
	return nil
}

// noSecretValues refuses what looks like a secret, or puts references in its place.
func (c *cli) noSecretValues(dir *registry.Sources, values exchange.Values, refer bool) error {
	refused := 0
	for _, key := range slices.Sorted(maps.Keys(values)) {
		m, _ := dir.Manifest(key)
		for _, f := range secretscan.Value(key, values[key], m) {
			if !refer || f.Name {
				refused++
				c.line("%s", plain(f.String()))
				continue
			}
			value, reference, err := exchange.Refer(key, values[key], f.Path)
			if err != nil {
				return err
			}
			values[key] = value
			c.note("%s%s is now a reference to %s: give the agent that variable before the change is released", key, plain(f.Path), plain(reference))
		}
	}
	if refused == 0 {
		return nil
	}
	if refer {
		return &ledger.Error{Kind: ledger.KindInvalid, Message: plural(refused, "name looks like a secret", "names look like secrets") + ", and nothing was written",
			Next: "a reference takes the place of a value, not of a name: give what stands there other names"}
	}
	return &ledger.Error{Kind: ledger.KindInvalid, Message: plural(refused, "value looks like a secret", "values look like secrets") + ", and nothing was written",
		Next: "say --secret-refs to write references in their place, or " + secretscan.Remedy}
}

// An imported is how a value of a file compares with what is released.
type imported struct {
	Key      string          `json:"key"`
	Result   string          `json:"result"` // new, same, or conflict
	Released json.RawMessage `json:"released,omitempty"`
	Imported json.RawMessage `json:"imported"`
}

// compareImport says what of the values is new, what is the same, and what is released with another value.
func (c *cli) compareImport(cmd *cobra.Command, i importing, values exchange.Values) error {
	if err := c.noSecretValues(&registry.Sources{}, values, i.secretRefs); err != nil {
		return err
	}
	released, err := c.valuesOf(cmd, i.environment, "", "")
	if err != nil {
		return err
	}
	list, count := compared(released, values)
	return c.show(list, func() {
		c.showImported(list)
		c.note("%d new, %d the same, %s in %s; nothing was written", count["new"], count["same"], plural(count["conflict"], "conflict", "conflicts"), i.environment)
	})
}

// compared compares values with what is released, and counts the results.
func compared(released, values exchange.Values) (list []imported, count map[string]int) {
	list, count = []imported{}, map[string]int{}
	for _, key := range slices.Sorted(maps.Keys(values)) {
		one := imported{Key: key, Result: "conflict", Released: released[key], Imported: values[key]}
		switch {
		case released[key] == nil:
			one.Result = "new"
		case bytes.Equal(released[key], values[key]):
			one.Result = "same"
		}
		count[one.Result]++
		list = append(list, one)
	}
	return list, count
}

func (c *cli) showImported(list []imported) {
	t := c.newTable("RESOURCE", "RESULT", "RELEASED", "IMPORTED")
	for _, one := range list {
		if one.Result != "same" {
			t.AppendRow([]any{one.Key, one.Result, value(one.Released), value(one.Imported)})
		}
	}
	if t.Length() > 0 {
		c.print(t)
	}
}
