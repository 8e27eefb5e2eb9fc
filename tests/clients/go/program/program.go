// Package program is what the Go programs share: requests from standard input, answers to standard output.
package program

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"sync"
)

// Request has what an operation needs of it.
type Request struct {
	Do         string
	Topic      string
	Group      string
	Codec      string
	Idempotent bool
	Partitions int32
	InFlight   int `json:"in_flight"`
	Records    []Record
	From       map[int32]int64
	To         map[int32]int64
	Times      []int64
	Before     map[int32]int64
}

// Record is one that was or will be sent; JSON has bytes in base64.
type Record struct {
	Partition int32    `json:"partition"`
	Offset    int64    `json:"offset"`
	Timestamp int64    `json:"timestamp"`
	Key       []byte   `json:"key"`
	Value     []byte   `json:"value"`
	Headers   []Header `json:"headers"`
}

// Header is a pair in JSON.
type Header struct {
	Name  string
	Value []byte
}

func (h Header) MarshalJSON() ([]byte, error) {
	return json.Marshal([]any{h.Name, h.Value})
}

func (h *Header) UnmarshalJSON(text []byte) error {
	return json.Unmarshal(text, &[]any{&h.Name, &h.Value})
}

// Operation carries out a request.
type Operation func(*Request) error

var requests = make(chan *Request, 16)

// Serve carries out requests, one after the other, until standard input ends.
func Serve(operations map[string]Operation) {
	go read()
	for request := range requests {
		if err := operations[request.Do](request); err != nil {
			Tell("error", err.Error())
		} else {
			Tell("done", true)
		}
	}
}

func read() {
	lines := bufio.NewReader(os.Stdin)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			os.Exit(0)
		}
		request := &Request{}
		if err := json.Unmarshal(line, request); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		requests <- request
	}
}

// Stop is closed when the next request comes; for those that end when told.
func Stop() <-chan struct{} {
	stop := make(chan struct{})
	go func() {
		<-requests
		close(stop)
	}()
	return stop
}

// Stopped says whether the channel is closed.
func Stopped(stop <-chan struct{}) bool {
	select {
	case <-stop:
		return true
	default:
		return false
	}
}

var output sync.Mutex

// Tell writes an event with one member.
func Tell(name string, value any) {
	TellAll(map[string]any{name: value})
}

// TellAll writes an event.
func TellAll(event map[string]any) {
	output.Lock()
	defer output.Unlock()
	if err := json.NewEncoder(os.Stdout).Encode(event); err != nil {
		panic(err)
	}
}
