package supervisor

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// children returns the processes whose parent this one is, the server among them,
// and may leave some out while others end.
func (f *family) children() ([]int, error) {
	all, err := listed()
	if f.server != 0 {
		all = append(all, f.server)
	}
	slices.Sort(all)
	// Where /proc is that of another namespace, its numbers are not ours.
	return slices.DeleteFunc(slices.Compact(all), func(pid int) bool {
		return unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT|unix.WALL, nil) != nil
	}), err
}

// listed is children by what /proc says.
func listed() ([]int, error) {
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return nil, err
	}
	var found []int
	for _, thread := range threads {
		list, err := os.ReadFile("/proc/self/task/" + thread.Name() + "/children")
		if err != nil {
			return sought() // not every kernel has it
		}
		for _, number := range strings.Fields(string(list)) {
			pid, err := strconv.Atoi(number)
			if err != nil {
				return nil, fmt.Errorf("read children: %w", err)
			}
			found = append(found, pid)
		}
	}
	return found, nil
}

// sought is listed, found among all processes.
func sought() ([]int, error) {
	all, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	parent := []byte(strconv.Itoa(os.Getpid()))
	var found []int
	for _, e := range all {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue // no process
		}
		text, err := os.ReadFile("/proc/" + e.Name() + "/stat")
		if err != nil {
			continue // it has ended
		}
		// pid (name) state parent …, where the name may be anything
		fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
		if len(fields) > 1 && bytes.Equal(fields[1], parent) {
			found = append(found, pid)
		}
	}
	return found, nil
}
