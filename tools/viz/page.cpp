#include "page.hpp"

#include <nlohmann/json.hpp>

namespace tinyphys::viz {
namespace {

using Json = nlohmann::ordered_json;

std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '<': out += "&lt;"; break;
      case '>': out += "&gt;"; break;
      case '&': out += "&amp;"; break;
      case '"': out += "&quot;"; break;
      default: out += c;
    }
  }
  return out;
}

// Within a script element nothing may look like its end, nor like a comment.
std::string for_script(const Json& j) {
  std::string out;
  for (const char c : j.dump(-1, ' ', true, Json::error_handler_t::replace)) {
    if (c == '<')
      out += "\\u003c";
    else if (c == '>')
      out += "\\u003e";
    else if (c == '&')
      out += "\\u0026";
    else
      out += c;
  }
  return out;
}

Json json_of(const GraphNode& n) {
  Json j{{"id", n.id}, {"op", n.op}, {"text", n.key()}};
  if (!n.dtype.empty()) j["dtype"] = n.dtype;
  if (!n.shape.empty()) j["shape"] = n.shape;
  if (!n.where.empty()) j["where"] = n.where;
  if (!n.sources.empty()) j["sources"] = n.sources;
  if (!n.change.empty()) j["change"] = n.change;
  if (n.removed) j["removed"] = true;
  return j;
}

}  // namespace

std::string page(const std::vector<Stage>& stages, const std::string& title) {
  Json all = Json::array();
  for (const Stage& s : stages) {
    Json j{{"realize", s.realize}, {"file", s.file}, {"name", s.name}, {"kind", s.kind}, {"text", s.text}};
    if (s.before >= 0) j["before"] = s.before;
    if (!s.svg.empty()) j["svg"] = s.svg;
    if (!s.no_svg.empty()) j["no_svg"] = s.no_svg;
    if (!s.rules.empty()) j["rules"] = s.rules;
    if (!s.nodes.empty()) {
      j["nodes"] = Json::array();
      for (const GraphNode& n : s.nodes) j["nodes"].push_back(json_of(n));
    }
    for (const auto& [extension, text] : s.forms)
      j["forms"].push_back({{"extension", extension}, {"text", text}});
    all.push_back(std::move(j));
  }
  return "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
         "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
         // No request to anywhere, whatever a dump holds.
         "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; script-src "
         "'unsafe-inline'; "
         "style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'\">\n<title>" +
         escaped(title) + "</title>\n<style>\n" + kStyle + "</style>\n</head>\n<body>\n" +
         R"html(<header>
<h1>)html" +
         escaped(title) + R"html(</h1>
<label for="search">Search</label>
<input id="search" type="search" placeholder="op, type or place ( / )" autocomplete="off">
<button id="next-hit" type="button">Next</button>
<span id="hits" role="status"></span>
<button id="theme" type="button" aria-pressed="false">Dark</button>
</header>
<div id="columns">
<nav id="steps" aria-label="Steps"></nav>
<main>
<div id="bar">
<button id="previous-step" type="button" title="k or up">Previous</button>
<button id="next-step" type="button" title="j or down">Next step</button>
<h2 id="name"></h2>
<span id="sides" role="group" aria-label="Graph before or after this pass">
<button id="before" type="button" aria-pressed="false" title="b">Before</button>
<button id="after" type="button" aria-pressed="true" title="b">After</button>
</span>
<span role="group" aria-label="Zoom">
<button id="zoom-out" type="button" aria-label="Smaller">-</button>
<button id="zoom-in" type="button" aria-label="Larger">+</button>
<button id="zoom-all" type="button" title="0">All</button>
</span>
</div>
<p id="note" role="status"></p>
<div id="picture" tabindex="0" aria-label="Graph: drag to move, wheel to zoom"></div>
<div id="texts"></div>
</main>
<aside id="details" aria-label="Node" aria-live="polite"></aside>
</div>
<noscript>This page needs JavaScript, which it brings with it.</noscript>
<script type="application/json" id="data">)html" +
         for_script(all) + "</script>\n<script>\n" + kScript + "</script>\n</body>\n</html>\n";
}

}  // namespace tinyphys::viz
