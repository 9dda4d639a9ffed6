#include "rewrite/rewrite.hpp"

#include "rewrite/rules_algebra.hpp"
#include "rewrite/rules_recognise.hpp"

namespace tinyphys {
namespace {

struct Algebra {
  template <class A> constexpr bool operator()(A& r) const { return rules_algebra(r); }
};
struct Recognise {
  template <class A> constexpr bool operator()(A& r) const { return rules_recognise(r); }
};

constexpr RuleTable kAlgebra = make_table<Algebra>();
constexpr RuleTable kRecognise = make_table<Algebra, Recognise>();

}  // namespace

const RuleTable& algebra_table() { return kAlgebra; }
const RuleTable& recognise_table() { return kRecognise; }

std::vector<UOp> simplify(std::span<const UOp> roots) { return rewrite(roots, kAlgebra).roots; }
UOp simplify(const UOp& root) { return simplify(std::span<const UOp>(&root, 1)).front(); }
std::vector<UOp> simplify_bodies(std::span<const UOp> roots) { return rewrite_bodies(roots, kAlgebra).roots; }

std::vector<UOp> simplify_for_recognition(std::span<const UOp> roots) {
  return rewrite(roots, kRecognise).roots;
}
UOp simplify_for_recognition(const UOp& root) {
  return simplify_for_recognition(std::span<const UOp>(&root, 1)).front();
}

std::string rules_text(const RuleTable& rules) {
  std::string text;
  for (const pattern::RuleInfo& r : rules.list()) {
    std::string file = r.where.file_name();
    file.erase(0, file.find_last_of('/') + 1);
    text += r.text + "   " + file + ":" + std::to_string(r.where.line()) + "\n";
  }
  return text;
}

}  // namespace tinyphys
