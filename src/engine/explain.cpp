#include "tinyphys/explain.hpp"

#include <cmath>

#include <fmt/format.h>

#include "engine/engine.hpp"
#include "engine/propagate.hpp"
#include "passes/loop_lift.hpp"
#include "support/env.hpp"
#include "tensor/access.hpp"
#include "tensor/engine_hook.hpp"
#include "tinyphys/error.hpp"
#include "uop/graph.hpp"
#include "uop/scan_layout.hpp"

namespace tinyphys {
namespace {

constexpr int kTextColumn = 9, kWhereColumn = 100;
// Decades of growth that are not the rounding of a zero eigenvalue.
constexpr double kVisibleGrowth = 1e-3;

class Writer {
 public:
  void line(std::string_view key, std::string text, const std::string& where = "") {
    text = fmt::format("{:<{}}{}", key, kTextColumn, text);
    if (!where.empty()) text = fmt::format("{:<{}} {}", text, kWhereColumn, where);
    out_ += text + "\n";
  }
  std::string take() { return std::move(out_); }

 private:
  std::string out_;
};

std::string with_commas(std::int64_t n) {
  std::string digits = std::to_string(n < 0 ? -n : n);
  for (auto i = static_cast<std::ptrdiff_t>(digits.size()) - 3; i > 0; i -= 3)
    digits.insert(static_cast<std::size_t>(i), ",");
  return (n < 0 ? "-" : "") + digits;
}

std::string duration(double s) {
  if (s < 1e-3) return fmt::format("{:.3g} us", s * 1e6);
  if (s < 1) return fmt::format("{:.3g} ms", s * 1e3);
  if (s < 120) return fmt::format("{:.3g} s", s);
  if (s < 2 * 3600) return fmt::format("{:.3g} min", s / 60);
  if (s < 2 * 86400) return fmt::format("{:.3g} h", s / 3600);
  return fmt::format("{:.3g} days", s / 86400);
}

std::string tensor_text(const Node* n) { return std::string(name(n->dtype)) + shape_text(n->shape()); }

std::string number_text(const Node* n) {
  if (n->op != Op::CONST) return "given as a tensor";
  return fmt::format("{}", const_double(n));
}

void explain_evolve(const Node* n, const JumpFacts* facts, Writer& out) {
  const EvolveView e(n);
  const std::string steps =
      e.steps()->op == Op::CONST ? with_commas(const_int(e.steps())) + " steps" : "steps given as a tensor";
  out.line(
      "evolve",
      fmt::format("{}, {}, dt {}, q and p {}", steps, e.row().name, number_text(e.dt()), tensor_text(e.q())),
      location_text(n));
  if (e.record().timed) {
    out.line("refused", "jump: H depends on the time");
    out.line("chose", fmt::format("the loop of {} steps", e.row().name));
    return;
  }
  const auto proof = prove_energy(n);
  if (!proof->quadratic) {
    out.line("refused", "jump: " + proof->refused);
    out.line("chose", fmt::format("the loop of {} steps", e.row().name));
    return;
  }
  std::string proved = "H is quadratic in (q, p): ";
  proved += proof->bound.worst.joint <= 2
                ? fmt::format("degree bound {}", proof->bound.worst.joint)
                : fmt::format("degree bound {}, lowered to 2", proof->bound.worst.joint);
  if (proof->identity.primes > 0)
    proved += fmt::format("{} identity test in F_p for {} random primes p, error < {:.0e}",
                          proof->bound.worst.joint <= 2 ? ";" : " by the", proof->identity.primes,
                          std::max(proof->identity.error_probability, 1e-300));
  out.line("proved", proved);
  const bool exact = !e.row().has_loop();
  if (!exact && e.record().method == Method::Loop) {
    out.line("refused", "jump: Method::Loop asks for the loop");
    out.line("chose", fmt::format("the loop of {} steps", e.row().name));
    return;
  }
  if (!exact && !env::optimize()) {
    out.line("refused", "jump: TINYPHYS_OPT=0");
    out.line("chose", fmt::format("the loop of {} steps", e.row().name));
    return;
  }
  std::string kind = proof->separable.separable ? "separable, H = T(p) + V(q)" : "q and p coupled";
  if (proof->separable.separable && proof->separable.error_probability > 0)
    kind += fmt::format(" by the identity test, error < {:.0e}",
                        std::max(proof->separable.error_probability, 1e-300));
  if (!facts) {
    out.line("found", kind);
    out.line("offers", fmt::format("{} (class exact); jump or loop is decided by cost when it runs",
                                   proof->separable.separable ? "normal-mode jump" : "powered step matrix"));
    return;
  }
  out.line("found", facts->structure.empty() ? kind : kind + "; " + facts->structure);
  if (!facts->jumped) {
    std::string refused = "jump: " + facts->refused;
    if (facts->error_bound_q > 0)
      refused +=
          fmt::format(" (bounds: {:.0e} of q, {:.0e} of p)", facts->error_bound_q, facts->error_bound_p);
    if (facts->by_cost)
      refused += fmt::format(" (the jump: {}, the loop: {}, its compilation included)",
                             duration(facts->jump_estimate_s), duration(facts->loop_estimate_s));
    out.line("refused", refused);
    out.line("chose", fmt::format("the loop of {} steps", e.row().name));
    return;
  }
  std::string chose =
      fmt::format("{} (class exact): ", facts->powered ? "powered step matrix" : "normal-mode jump");
  if (facts->build_s > 0)
    chose += fmt::format("{} once, then {} a jump", duration(facts->build_s), duration(facts->apply_s));
  else
    chose += fmt::format("{}, its modes were ready", duration(facts->apply_s));
  if (!exact) chose += fmt::format("; the loop would take about {}", duration(facts->loop_estimate_s));
  out.line("chose", chose);
  if (std::isinf(facts->error_bound_q) || std::isinf(facts->error_bound_p)) {
    out.line("error",
             "no bound: the state leaves the range of doubles, or one half of it is zero but for rounding");
  } else if (facts->error_bound_q > 0) {
    const auto bound = [](const char* of, double b) {
      return fmt::format("{} <= {:.1e}{}", of, b, b < 1 ? "" : " (no digit is certain)");
    };
    std::string error =
        fmt::format("{}, {} relative to the exactly evaluated {} map", bound("q", facts->error_bound_q),
                    bound("p", facts->error_bound_p), e.row().name);
    if (!exact) error += fmt::format("; the loop's own rounding here ~ {:.0e}", facts->loop_error);
    out.line("error", error);
  }
  if (facts->h_omega_max > 0) out.line("spectrum", fmt::format("largest h*omega {:.4g}", facts->h_omega_max));
  if (facts->unstable_modes > 0 && facts->growth_decades > kVisibleGrowth)
    out.line("warns", fmt::format("{} mode{} unstable under this step (h*omega > 2 or K not positive): the "
                                  "motion grows by 10^{:.4g}, "
                                  "as the loop's would",
                                  facts->unstable_modes, facts->unstable_modes == 1 ? " is" : "s are",
                                  facts->growth_decades));
}

void explain_scan(const Node* n, Writer& out) {
  const ScanView s(n);
  std::string carry;
  for (Node* c : s.carry()) carry += (carry.empty() ? "" : ", ") + tensor_text(c);
  const std::string steps =
      s.steps()->op == Op::CONST ? with_commas(const_int(s.steps())) + " steps" : "steps given as a tensor";
  out.line("scan", fmt::format("{}, carry {}", steps, carry), location_text(n));
  out.line("chose", "the loop: only evolutions of a Hamiltonian are lifted in this version");
}

}  // namespace

std::string explain_text(const UOp& value) {
  Writer out;
  bool physics = false;
  NodeMap<const JumpFacts*> facts;
  const auto order = toposort(value);
  for (Node* n : order)
    if (n->op == Op::GET && storage(n) && storage(n)->origin)
      facts.insert(n->src(0), static_cast<const JumpFacts*>(storage(n)->origin.get()));
  for (Node* n : order) {
    if (n->op == Op::EVOLVE) {
      const auto* f = facts.find(n);
      explain_evolve(n, f ? *f : nullptr, out);
      physics = true;
    } else if (n->op == Op::SCAN) {
      explain_scan(n, out);
      physics = true;
    }
  }
  if (storage(value.get())) {
    out.line("value", "realized, " + tensor_text(value.get()));
  } else if (!(value->flags & Node::kHasSym)) {
    const std::string plan = describe_plan(std::span<const UOp>(&value, 1));
    std::size_t start = 0;
    for (std::size_t end; (end = plan.find('\n', start)) != std::string::npos; start = end + 1)
      out.line(start == 0 ? "plan" : "", plan.substr(start, end - start));
  }
  if (!physics)
    out.line("physics", "no evolution and no scan in this value: it runs as written, in fused kernels");
  return out.take();
}

Report explain(const Tensor& t) {
  const UOp u = uop(t);
  if (!u) throw Error("explain", "the tensor is empty", "", 0);
  return {engine().explain(u)};
}

}  // namespace tinyphys
