// Command driver is the client-go side of the end-to-end suite. A real client library drives the
// real control plane, directly or through the proxy. The driver compares what the client was told
// with what is stored.
//
// Each subcommand prints exactly one JSON object on stdout, and progress on stderr. Its report
// struct is the contract. It exits with 0 when the run itself worked, whatever it found, and with 1
// when it did not.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

// command is one subcommand. It adds its flags to the set and returns the runner for the parsed
// flags.
type command struct {
	name, summary string
	setup         func(*flag.FlagSet) runner
}

// runner does the work and returns the report to print.
type runner func(context.Context) (any, error)

var commands = []command{
	{"quota", "create a namespace with quotas and wait until the quota controller has filled them in", quotaCommand},
	{"contend", "keep the quotas of a namespace changing until SIGTERM, so that creates on other apiservers conflict", contendCommand},
	{"storm", "create many pods at once, optionally deleting meanwhile, and judge the outcome", stormCommand},
	{"informer", "watch through informers and check that every event arrives once and in order", informerCommand},
	{"watches", "hold many watches open until SIGTERM", watchesCommand},
	{"lease", "hold a leader election lease", leaseCommand},
	{"contract", "create pods as the drivers in tests/clients do", contractCommand},
	{"objects", "compare uses of the API through the proxy with the same directly", objectsCommand},
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "driver: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		usage()
		return errors.New("no subcommand")
	}
	if args[0] == "-h" || args[0] == "-help" || args[0] == "--help" || args[0] == "help" {
		usage()
		return nil
	}
	for _, command := range commands {
		if command.name == args[0] {
			return command.run(ctx, args[1:])
		}
	}
	usage()
	return fmt.Errorf("unknown subcommand %q", args[0])
}

func (c command) run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet(c.name, flag.ContinueOnError)
	flags.Usage = func() {
		fmt.Fprintf(flags.Output(), "driver %s: %s\n\n", c.name, c.summary)
		flags.PrintDefaults()
	}
	work := c.setup(flags)
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return nil
	} else if err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("%s takes no arguments, got %q", c.name, flags.Args())
	}
	report, err := work(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", c.name, err)
	}
	out := json.NewEncoder(os.Stdout)
	out.SetEscapeHTML(false)
	return out.Encode(report)
}

func usage() {
	fmt.Fprintln(os.Stderr, "usage: driver SUBCOMMAND [flags], driver SUBCOMMAND -h for its flags")
	for _, command := range commands {
		fmt.Fprintf(os.Stderr, "  %-9s %s\n", command.name, command.summary)
	}
}

// progress prints what happens, for people. Only the lines "contending" and "watching" are parsed.
func progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", args...)
}
