#include "process.hpp"

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <poll.h>
#include <spawn.h>
#include <stdexcept>
#include <sys/wait.h>
#include <system_error>
#include <unistd.h>

#include <fmt/format.h>

namespace tinyphys::bench {
namespace {

constexpr const char* kMainStart = "main_start_ns";

[[noreturn]] void fail(const std::string& what, int error) {
  throw std::system_error(error, std::generic_category(), what);
}

struct Descriptor {
  int fd = -1;
  Descriptor() = default;
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() { reset(); }
  void reset() {
    if (fd >= 0) close(fd);
    fd = -1;
  }
};

struct Pipe {
  Descriptor read, write;
  Pipe() {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) fail("pipe", errno);
    read.fd = ends[0];
    write.fd = ends[1];
  }
};

// posix_spawn rather than fork: this process may hold gigabytes and threads, and fork would copy its page
// tables inside the measured time.
pid_t spawn(const std::vector<std::string>& arguments, const std::string& folder, const Pipe& out,
            const Pipe& err) {
  std::vector<char*> argv;
  for (const std::string& a : arguments) argv.push_back(const_cast<char*>(a.c_str()));
  argv.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, out.write.fd, STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&actions, err.write.fd, STDERR_FILENO);
  posix_spawn_file_actions_addchdir_np(&actions, folder.c_str());
  pid_t pid = 0;
  const int error = posix_spawn(&pid, argv[0], &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) fail(arguments.front(), error);
  return pid;
}

// Reads both pipes until the process closes them; one after the other would block a process that fills the
// second.
void read_all(const Pipe& out, const Pipe& err, ProcessResult& r) {
  std::array<pollfd, 2> polled{{{out.read.fd, POLLIN, 0}, {err.read.fd, POLLIN, 0}}};
  const std::array<std::string*, 2> texts{&r.output, &r.errors};
  int open = 2;
  std::array<char, 65536> buffer;
  while (open > 0) {
    if (poll(polled.data(), polled.size(), -1) < 0) {
      if (errno == EINTR) continue;
      fail("poll", errno);
    }
    for (std::size_t i = 0; i < polled.size(); ++i) {
      if (polled[i].fd < 0 || polled[i].revents == 0) continue;
      const ssize_t got = read(polled[i].fd, buffer.data(), buffer.size());
      if (got < 0 && errno == EINTR) continue;
      if (got > 0) {
        texts[i]->append(buffer.data(), static_cast<std::size_t>(got));
        if (i == 0) r.last_output = seconds_since(r.start);
      } else {
        polled[i].fd = -1;
        --open;
      }
    }
  }
}

std::string last_line(const std::string& text) {
  const std::size_t end = text.find_last_not_of(" \n\r\t");
  if (end == std::string::npos) return "no message";
  const std::size_t start = text.find_last_of('\n', end);
  return text.substr(start == std::string::npos ? 0 : start + 1,
                     end - (start == std::string::npos ? 0 : start + 1) + 1);
}

}  // namespace

TemporaryFolder::TemporaryFolder()
    : path_((std::filesystem::temp_directory_path() / "tinyphys-bench-XXXXXX").string()) {
  if (mkdtemp(path_.data()) == nullptr) fail(path_, errno);
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

ProcessResult run_process(const std::vector<std::string>& arguments, const std::string& folder) {
  Pipe out, err;
  ProcessResult r;
  r.start = Clock::now();
  const pid_t pid = spawn(arguments, folder, out, err);
  out.write.reset();
  err.write.reset();
  read_all(out, err, r);
  int status = 0;
  while (waitpid(pid, &status, 0) < 0)
    if (errno != EINTR) fail("waitpid", errno);
  r.seconds = seconds_since(r.start);
  const std::string name = std::filesystem::path(arguments.front()).filename().string();
  if (WIFSIGNALED(status))
    throw std::runtime_error(fmt::format("{} was ended by signal {}", name, strsignal(WTERMSIG(status))));
  if (WEXITSTATUS(status) != 0)
    throw std::runtime_error(
        fmt::format("{} ended with code {}: {}", name, WEXITSTATUS(status), last_line(r.errors)));
  return r;
}

std::string own_path() { return std::filesystem::read_symlink("/proc/self/exe").string(); }

std::string build_folder() {
  return std::filesystem::path(own_path()).parent_path().parent_path().parent_path().string();
}

double ChildResult::operator[](const std::string& key) const {
  const auto found = values.find(key);
  if (found == values.end()) throw std::runtime_error("the child process did not report " + key);
  return found->second;
}

ChildResult run_child(const std::string& name) {
  const ProcessResult p = run_process({own_path(), "--child", name}, ".");
  ChildResult r;
  std::size_t at = 0;
  while (at < p.output.size()) {
    const std::size_t end = std::min(p.output.find('\n', at), p.output.size());
    const std::string line = p.output.substr(at, end - at);
    at = end + 1;
    const std::size_t space = line.find(' ');
    if (space != std::string::npos) r.values[line.substr(0, space)] = std::stod(line.substr(space + 1));
  }
  // steady_clock is CLOCK_MONOTONIC, one clock for all processes of a machine.
  const auto parent = std::chrono::duration<double, std::nano>(p.start.time_since_epoch()).count();
  r.start_up = (r[kMainStart] - parent) * 1e-9;
  return r;
}

void print_value(const std::string& key, double value) { fmt::print("{} {:.17g}\n", key, value); }

void print_main_start(Clock::time_point main_start) {
  print_value(kMainStart, std::chrono::duration<double, std::nano>(main_start.time_since_epoch()).count());
}

}  // namespace tinyphys::bench
