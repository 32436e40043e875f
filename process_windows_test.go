package epore_test

import (
	"unsafe"

	"golang.org/x/sys/windows"
)

// tasks counts the threads of this process.
func tasks() (n int) {
	all, err := windows.CreateToolhelp32Snapshot(windows.TH32CS_SNAPTHREAD, 0)
	if err != nil {
		return 0
	}
	defer windows.CloseHandle(all)
	thread := windows.ThreadEntry32{Size: uint32(unsafe.Sizeof(windows.ThreadEntry32{}))}
	for err = windows.Thread32First(all, &thread); err == nil; err = windows.Thread32Next(all, &thread) {
		if thread.OwnerProcessID == windows.GetCurrentProcessId() {
			n++
		}
	}
	return n
}
