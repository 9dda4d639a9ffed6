#include "tensor/files.hpp"

#include <array>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <string_view>
#include <unistd.h>

#include "tensor/ops.hpp"
#include "uop/history.hpp"

namespace tinyphys {
namespace {

struct Format {
  std::string_view extension;
  void (*write)(std::ostream&, const Node*, const Where&);
  Tensor (*read)(std::istream&, const std::string&, const Where&);
};
constexpr std::array kFormats{
    Format{".npy", front::write_npy, front::read_npy},
    Format{".csv", front::write_csv, front::read_csv},
};

const Format& format_of(const std::string& path, front::Call call, const Where& where) {
  std::string known;
  for (const Format& f : kFormats) {
    if (path.ends_with(f.extension)) return f;
    known += (known.empty() ? "" : ", ") + std::string(f.extension);
  }
  front::fail(call, "\"" + path + "\": the name must end in one of " + known, where);
}

std::string system_message() { return std::strerror(errno); }

}  // namespace

void save(const std::string& path, const Arg& x) {
  constexpr front::Call kCall = "save";
  const Where& where = x.where();
  const Format& format = format_of(path, kCall, where);
  const UOp u = front::value(x, kCall);
  front::compute(std::span(&u, 1), kCall, where);
  let_go_soon();

  static std::atomic<unsigned> counter{0};
  const std::string temporary = path + ".tmp." + std::to_string(getpid()) + "." + std::to_string(counter++);
  errno = 0;
  std::ofstream file(temporary, std::ios::binary | std::ios::trunc);
  if (!file) front::fail(kCall, "cannot write \"" + temporary + "\": " + system_message(), where);
  try {
    format.write(file, u.get(), where);
  } catch (...) {
    file.close();
    std::remove(temporary.c_str());
    throw;
  }
  file.close();
  if (!file || std::rename(temporary.c_str(), path.c_str()) != 0) {
    const std::string why = system_message();
    std::remove(temporary.c_str());
    front::fail(kCall, "cannot write \"" + path + "\": " + why, where);
  }
}

Tensor load(const std::string& path, Where where) {
  constexpr front::Call kCall = "load";
  LocationScope scope(where);
  const Format& format = format_of(path, kCall, where);
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  if (!file) front::fail(kCall, "\"" + path + "\": cannot read: " + system_message(), where);
  return format.read(file, path, where);
}

}  // namespace tinyphys
