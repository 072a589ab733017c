// Package checks is what the Go example clients share: where the broker is, fresh names, one line per check.
package checks

import (
	"context"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"time"
)

// Timeout is the longest that one check may take.
const Timeout = 60 * time.Second

// Check is one named check.
type Check struct {
	Name string
	Run  func(ctx context.Context) error
}

// Address is HOST:PORT from the first argument, else from the environment variable, else the usual local port.
func Address(variable, usual string) string {
	if len(os.Args) > 1 {
		return os.Args[1]
	}
	if value := os.Getenv(variable); value != "" {
		return value
	}
	return usual
}

// Unique makes a name that no other run uses.
func Unique(prefix string) string {
	return fmt.Sprintf("%s-%x", prefix, time.Now().UnixNano())
}

// Same fails with both sides unless they are equal.
func Same(what string, got, want any) error {
	if reflect.DeepEqual(got, want) {
		return nil
	}
	return fmt.Errorf("%s: got %s, want %s", what, brief(got), brief(want))
}

func brief(value any) string {
	text := fmt.Sprintf("%#v", value)
	if len(text) > 300 {
		return text[:300] + "..."
	}
	return text
}

// Refused passes if err is the wanted error.
func Refused(err, want error) error {
	if errors.Is(err, want) {
		return nil
	}
	return fmt.Errorf("want %v, got %v", want, err)
}

// Run runs each check, prints `ok NAME` or `FAIL NAME: why`, and ends the program with 0 or 1.
func Run(checks []Check) {
	code := 0
	for _, check := range checks {
		ctx, cancel := context.WithTimeout(context.Background(), Timeout)
		err := check.Run(ctx)
		cancel()
		if err == nil {
			fmt.Println("ok", check.Name)
			continue
		}
		code = 1
		fmt.Printf("FAIL %s: %s\n", check.Name, strings.ReplaceAll(err.Error(), "\n", " "))
	}
	os.Exit(code)
}
