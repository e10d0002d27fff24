package main

import "github.com/spf13/cobra"

func exitCodesTopic() *cobra.Command {
	return &cobra.Command{
		Use:   "exit-codes",
		Short: "What the exit codes mean",
		Long: `  0  done
  1  an error that has no code of its own; something that is not there
  2  the command line is not understood
  3  there are differences (only with --exit-code)
  4  denied: this person may not, or others can read a key
  5  invalid: the change, or what the command says, makes no sense
  6  waiting: approvals are missing, or --wait timed out
  7  an environment could not apply the release that was waited for
  8  conflict: the state has moved, or does not allow it
  9  unavailable: no publisher answers, or it cannot write now
130  interrupted`,
	}
}
