package console

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/lockstep-dev/lockstep/internal/config"
)

// The exit codes of both programs. What each means to a program stands in its topic exit-codes.
const (
	ExitFailure     = 1
	ExitUsage       = 2
	ExitDifference  = 3
	ExitDenied      = 4
	ExitInvalid     = 5
	ExitWaiting     = 6
	ExitFailed      = 7
	ExitConflict    = 8
	ExitUnavailable = 9
	ExitInterrupted = 130
)

// An ExitError ends the program with a code of its own. Without a message nothing more is to be said.
type ExitError struct {
	Code    int
	Message string
}

func (e *ExitError) Error() string { return e.Message }

// Exit is an error that ends the program with a code.
func Exit(code int, message string) error { return &ExitError{Code: code, Message: message} }

// Usage refuses what the command line says.
func Usage(cmd *cobra.Command, format string, args ...any) error {
	return Exit(ExitUsage, fmt.Sprintf(format, args...)+"; see '"+cmd.CommandPath()+" --help'")
}

// Group makes a command that only holds others say what it holds, and suggest the one that was meant.
func Group(cmd *cobra.Command) {
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		var names []string
		for _, sub := range cmd.Commands() {
			if sub.IsAvailableCommand() {
				names = append(names, sub.Name())
			}
		}
		return Usage(cmd, "there is no command %q%s", args[0], meant(args[0], "", names))
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
}

// meant suggests a word where one is near.
func meant(word, before string, known []string) string {
	if near := config.Nearest(word, known); near != "" {
		return fmt.Sprintf("; did you mean %q?", before+near)
	}
	return ""
}

// Strict refuses, of a program with all its commands, what cobra lets pass: words, topics and shells that are not there; and makes of its
// complaints errors of usage.
func Strict(root *cobra.Command, args []string) {
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		// Flags of a command that is not there are not the mistake.
		if _, rest, found := root.Find(args); found == nil && cmd.HasSubCommands() && len(rest) > 0 && !strings.HasPrefix(rest[0], "-") {
			return cmd.Args(cmd, rest[:1])
		}
		return Usage(cmd, "%v%s", err, meantFlag(cmd, err))
	})
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	if help, _, err := root.Find([]string{"help"}); err == nil {
		help.Args = func(_ *cobra.Command, args []string) error {
			topic, rest, err := root.Find(args)
			if err != nil || len(rest) > 0 {
				return topic.Args(topic, rest)
			}
			return nil
		}
	}
	if completion, _, err := root.Find([]string{"completion"}); err == nil {
		Group(completion)
	}
	strictArguments(root)
}

func strictArguments(cmd *cobra.Command) {
	for _, sub := range cmd.Commands() {
		strictArguments(sub)
		check := sub.Args
		if check == nil {
			check = cobra.NoArgs
		}
		sub.Args = func(cmd *cobra.Command, args []string) error {
			err := check(cmd, args)
			if _, ours := errors.AsType[*ExitError](err); err == nil || ours {
				return err
			}
			return Usage(cmd, "these arguments do not fit; write %s %s", cmd.Parent().CommandPath(), cmd.Use)
		}
	}
}

// meantFlag suggests a flag for one that is not there.
func meantFlag(cmd *cobra.Command, err error) string {
	unknown, ok := errors.AsType[*pflag.NotExistError](err)
	if !ok || len(unknown.GetSpecifiedName()) < 2 {
		return ""
	}
	var names []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			names = append(names, f.Name)
		}
	})
	return meant(unknown.GetSpecifiedName(), "--", names)
}
