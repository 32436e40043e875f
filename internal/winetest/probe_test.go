package main

// envHang, set in the environment, makes TestHang hang.
const envHang = "EPORE_TEST_WINETEST_HANG"

// envCrash, set in the environment, makes TestCrash crash.
const envCrash = "EPORE_TEST_WINETEST_CRASH"
