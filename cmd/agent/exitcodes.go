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
  4  denied: a file may not be read, or others can read a secret one
  5  invalid: the agent's file, its state or a release makes no sense
  8  conflict: the state or the instance is another agent's, or in use
  9  unavailable: no agent answers, or the bus cannot be reached
130  interrupted`,
	}
}
