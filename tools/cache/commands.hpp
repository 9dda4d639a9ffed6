// The commands of tinyphys-cache, each printing to stdout and returning the exit code.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cache/store.hpp"

namespace tinyphys::cache_tool {

inline constexpr int kDone = 0, kFound = 1, kUsage = 2, kFailed = 3;

// The message says what is wrong with the command line.
struct Usage {
  std::string message;
};

struct Options {
  std::string command;
  std::vector<std::string> keys;
  std::string folder;
  std::string sort = "used";
  bool reverse = false, json = false, repair = false;
  std::optional<std::int64_t> max_bytes;
  std::optional<double> older_than_s;
};

int list(KernelStore& store, const Options& o);
int show(KernelStore& store, const Options& o);
int stats(KernelStore& store, const Options& o);
int verify(KernelStore& store, const Options& o);
int prune(KernelStore& store, const Options& o);
int clear(KernelStore& store, const Options& o);
int diff(KernelStore& store, const Options& o);

}  // namespace tinyphys::cache_tool
