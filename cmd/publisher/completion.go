package main

import (
	"context"
	"slices"
	"time"

	"github.com/spf13/cobra"
)

// completionTimeout bounds what a person waits for after the tab key.
const completionTimeout = 3 * time.Second

// A completer gives the words that may stand somewhere.
type completer = func(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective)

const noFiles = cobra.ShellCompDirectiveNoFileComp

func complete(cmd *cobra.Command, flag string, fn completer) {
	if err := cmd.RegisterFlagCompletionFunc(flag, fn); err != nil {
		panic(err) // the flag is not there: a mistake of ours that every start shows
	}
}

// completeArgument completes only the first argument.
func (c *cli) completeArgument(fn completer) completer {
	return func(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, noFiles
		}
		return fn(cmd, args, begun)
	}
}

// completeTwoEnvironments completes two arguments.
func (c *cli) completeTwoEnvironments(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 1 {
		return nil, noFiles
	}
	return c.completeEnvironments(cmd, args, begun)
}

func (c *cli) completeEnvironments(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(cmd.Context(), completionTimeout)
	defer cancel()
	return c.environmentNames(ctx), noFiles
}

// completeResources gives the resources of the environments that the first argument or --env names, or of all.
func (c *cli) completeResources(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(cmd.Context(), completionTimeout)
	defer cancel()
	publisher, _, err := c.connect()
	if err != nil {
		return nil, noFiles
	}
	environments := args
	if len(environments) == 0 {
		environments = c.environmentNames(ctx)
	}
	var keys []string
	for _, environment := range environments {
		list, err := publisher.Resources(ctx, environment, "")
		if err != nil {
			break
		}
		for _, r := range list {
			keys = append(keys, r.Key)
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys), noFiles
}

// completeResourcesAnywhere gives the resources of all environments, whatever the arguments before.
func (c *cli) completeResourcesAnywhere(cmd *cobra.Command, _ []string, begun string) ([]string, cobra.ShellCompDirective) {
	return c.completeResources(cmd, nil, begun)
}

func (c *cli) completeEnvironmentsAndResources(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
	environments, _ := c.completeEnvironments(cmd, args, begun)
	resources, _ := c.completeResources(cmd, args, begun)
	return append(environments, resources...), noFiles
}

func (c *cli) completeEnvironmentThenResource(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
	switch len(args) {
	case 0:
		return c.completeEnvironments(cmd, args, begun)
	case 1:
		return c.completeResources(cmd, args, begun)
	}
	return nil, noFiles
}

func (c *cli) completeEnvironmentThenAgent(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
	if len(args) != 1 {
		return c.completeArgument(c.completeEnvironments)(cmd, args, begun)
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), completionTimeout)
	defer cancel()
	var names []string
	for _, e := range c.fleetOrNothing(ctx).Environments {
		for _, a := range e.Agents {
			if e.Name == args[0] {
				names = append(names, a.Name)
			}
		}
	}
	return names, noFiles
}

// completeChanges gives the ids of changes that have one of the statuses, or of all, each with its reason.
func (c *cli) completeChanges(statuses ...string) completer {
	return c.completeArgument(func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		ctx, cancel := context.WithTimeout(cmd.Context(), completionTimeout)
		defer cancel()
		publisher, _, err := c.connect()
		if err != nil {
			return nil, noFiles
		}
		list, err := publisher.Changes(ctx, "")
		if err != nil {
			return nil, noFiles
		}
		var words []string
		for _, change := range list {
			if len(statuses) == 0 || slices.Contains(statuses, change.Status) {
				words = append(words, change.ID+"\t"+brief(change.Reason))
			}
		}
		return words, noFiles | cobra.ShellCompDirectiveKeepOrder
	})
}
