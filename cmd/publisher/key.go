package main

import (
	"errors"
	"io/fs"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/lockstep-dev/lockstep/internal/api/client"
	"github.com/lockstep-dev/lockstep/internal/console"
	"github.com/lockstep-dev/lockstep/internal/keys"
)

func keyCommand(c *cli) *cobra.Command {
	cmd := &cobra.Command{Use: "key", Short: "Make, show and list the keys that people sign with"}
	console.Group(cmd)
	cmd.AddCommand(keyNewCommand(c), keyShowCommand(c), keyListCommand(c))
	return cmd
}

// ring is the directory of people's keys.
func (c *cli) ring() (keys.Ring, error) {
	target, err := client.Locate(c.said)
	if err == nil && target.Keys == "" {
		err = console.Exit(console.ExitFailure, "there is no directory for keys, because this user has no home; name one with --keys")
	}
	return keys.Ring(target.Keys), err
}

func keyNewCommand(c *cli) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "new (NAME | --file FILE)",
		Short: "Make a key for a person",
		Long: `Make a key for a person: an Ed25519 nkey in a file that only its owner can read, NAME.key in the directory of keys. It never leaves this
machine; its public half, which is printed, goes to an administrator. A key that is there is never overwritten.

With --file the key is written where you say, as for a root whose key is kept apart.`,
		Example: `  publisher key new ben
  publisher key new --file /media/offline/root-2.key`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if (len(args) == 1) == (file != "") {
				return console.Usage(cmd, "name the person whose key it is, or a file with --file")
			}
			if file != "" {
				made, err := newKeyFile(file)
				if err != nil {
					return err
				}
				return c.show(made, func() {
					c.line("%s", made.Key)
					c.note("the key is in %s, which nobody else may read", made.File)
				})
			}
			used, err := c.ring()
			if err != nil {
				return err
			}
			c.said.Server = client.DefaultServer // a key outlives the publisher that happens to run on this machine, as a demo and its directory
			ring, err := c.ring()
			if err != nil {
				return err
			}
			made, err := ring.New(args[0])
			if errors.Is(err, fs.ErrExist) {
				return keyIsThere(filepath.Join(string(ring), args[0]+".key"))
			}
			if err != nil {
				return err
			}
			return c.show(made, func() {
				c.line("%s", made.Key)
				c.note("the key is in %s, which nobody else may read; give its public half, printed above, to an administrator, who writes:", made.File)
				c.note("  publisher trust add %s --key %s --role approver --env 'prod-*' -m WHY", shellWord(args[0]), made.Key)
				if used != ring {
					c.note("! commands to the publisher that runs here use the keys in %s: to act there with this one, say --keys %s", used, shellWord(string(ring)))
				}
			})
		},
	}
	cmd.Flags().StringVar(&file, "file", "", "write it to `FILE` instead")
	return cmd
}

// newKeyFile makes a key that is no person's in this directory of keys: a root's.
func newKeyFile(path string) (keys.PersonKey, error) {
	seed, err := keys.NewSeed()
	if err == nil {
		err = keys.WriteKey(path, seed, nil)
	}
	if errors.Is(err, fs.ErrExist) {
		return keys.PersonKey{}, keyIsThere(path)
	}
	if err != nil {
		return keys.PersonKey{}, err
	}
	signer, err := keys.ReadKey(path)
	if err != nil {
		return keys.PersonKey{}, err
	}
	return keys.PersonKey{Key: signer.Public(), File: path, Signer: signer}, nil
}

func keyIsThere(path string) error {
	return console.Exit(console.ExitFailure, "there is a key "+path+" already, and no key is written over; show its public half with 'publisher key show'")
}

func keyShowCommand(c *cli) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:               "show [NAME]",
		Short:             "Show the public half of a key: of NAME, of who acts, or of a file",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: c.completeArgument(c.completeKeys),
		RunE: func(cmd *cobra.Command, args []string) error {
			if file != "" && len(args) == 1 {
				return console.Usage(cmd, "name a person, or a file with --file")
			}
			shown := keys.PersonKey{File: file}
			var err error
			if file != "" {
				shown.Signer, err = keys.ReadKey(file)
			} else {
				shown, err = c.keyOf(args...)
			}
			if err != nil {
				return err
			}
			shown.Key = shown.Signer.Public()
			return c.show(shown, func() { c.line("%s", shown.Key) })
		},
	}
	cmd.Flags().StringVar(&file, "file", "", "of the key in `FILE`")
	return cmd
}

// keyOf is the key of a person, or of who acts.
func (c *cli) keyOf(name ...string) (keys.PersonKey, error) {
	target, err := client.Locate(c.said)
	if err != nil {
		return keys.PersonKey{}, err
	}
	name = append(name, target.As)
	ring, err := c.ring()
	if err != nil {
		return keys.PersonKey{}, err
	}
	k, err := ring.Read(name[0])
	if errors.Is(err, keys.ErrNoKey) {
		err = noKey(name[0], ring)
	}
	return k, err
}

// noKey says what to do where somebody has no key here.
func noKey(name string, ring keys.Ring) error {
	return console.Exit(console.ExitDenied, "there is no key of "+plain(name)+" in "+string(ring)+
		": say who you are with --as, name another directory with --keys, or make a key with "+hint("publisher key new", name)+" and have an administrator add it")
}

func keyListCommand(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the keys on this machine, and those that cannot be used",
		RunE: func(cmd *cobra.Command, _ []string) error {
			ring, err := c.ring()
			if err != nil {
				return err
			}
			list, err := ring.List()
			if err != nil {
				return err
			}
			return c.show(list, func() { c.listKeys(ring, list) })
		},
	}
}

func (c *cli) listKeys(ring keys.Ring, list []keys.PersonKey) {
	if len(list) == 0 {
		c.note("there are no keys in %s; make one with 'publisher key new NAME'", ring)
		return
	}
	t := c.newTable("NAME", "KEY", "FILE")
	for _, k := range list {
		t.AppendRow([]any{k.Name, dash(k.Key), k.File})
	}
	c.print(t)
	for _, k := range list {
		if k.Wrong != "" {
			c.note("%s cannot be used: %s", k.Name, plain(k.Wrong))
		}
	}
}

func (c *cli) completeKeys(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	ring, err := c.ring()
	if err != nil {
		return nil, noFiles
	}
	list, err := ring.List()
	if err != nil {
		return nil, noFiles
	}
	var names []string
	for _, k := range list {
		names = append(names, k.Name)
	}
	return names, noFiles
}
