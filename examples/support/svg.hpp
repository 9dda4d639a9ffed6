// Plots as SVG text: panels with axes, ticks and labels; lines, points, marks along an axis, heat maps.
//
//   Figure figure(800, 400);
//   Panel panel({.x = 70, .y = 40, .width = 700, .height = 300}, {"t (s)", 0, 10}, {"q (m)", -1, 1});
//   panel.line(t, q, kBlue, "mass 3");
//   figure.add(panel);
//   figure.save("motion.svg");
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "bad_input.hpp"
#include "png.hpp"

namespace example {

inline constexpr std::string_view kBlue = "#2166ac", kRed = "#c0392b", kGreen = "#2e7d32", kGrey = "#707070";

inline std::string escape_xml(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '&') out += "&amp;";
    else if (c == '<') out += "&lt;";
    else if (c == '>') out += "&gt;";
    else if (c == '"') out += "&quot;";
    else out += c;
  }
  return out;
}

/// Multiples of 1, 2 or 5 times a power of ten inside [low, high], about `count` of them.
inline std::vector<double> nice_ticks(double low, double high, int count) {
  const double raw = (high - low) / count;
  const double power = std::pow(10.0, std::floor(std::log10(raw)));
  const double rest = raw / power;
  const double step = power * (rest <= 1.5 ? 1 : rest <= 3.5 ? 2 : rest <= 7.5 ? 5 : 10);
  std::vector<double> ticks;
  const double first = std::ceil(low / step - 1e-9), last = std::floor(high / step + 1e-9);
  for (double i = first; i <= last && ticks.size() < 100; ++i) ticks.push_back(i * step + 0.0);  // + 0.0: no "-0"
  return ticks;
}

struct Axis {
  std::string label;
  double low = 0, high = 1;
  bool decades = false;  // values are log10 of what the ticks say

  /// A range that can be drawn, whatever the data were.
  Axis usable() const {
    Axis axis = *this;
    if (!std::isfinite(low) || !std::isfinite(high)) {
      axis.low = 0;
      axis.high = 1;
    } else if (!(low < high)) {
      const double room = std::max(std::abs(low), 1e-300) / 2;
      axis.low = low - room;
      axis.high = low + room;
    }
    return axis;
  }
};

struct Box {
  double x = 0, y = 0, width = 100, height = 100;
};

class Panel {
 public:
  Panel(Box box, Axis x, Axis y, std::string_view title = {}) : box_(box), x_(x.usable()), y_(y.usable()) {
    if (!title.empty())
      under_ += fmt::format(R"(<text x="{:.1f}" y="{:.1f}" class="title">{}</text>)" "\n", box.x, box.y - 10,
                            escape_xml(title));
    draw_axes();
  }

  /// Points that are not finite break the line.
  void line(const std::vector<double>& x, const std::vector<double>& y, std::string_view color,
            std::string_view label = {}) {
    std::string path;
    bool pen_down = false;
    for (std::size_t i = 0; i < x.size(); ++i) {
      if (!std::isfinite(x[i]) || !std::isfinite(y[i])) {
        pen_down = false;
        continue;
      }
      fmt::format_to(std::back_inserter(path), "{}{:.1f} {:.1f}", pen_down ? "L" : "M", at_x(x[i]), at_y(y[i]));
      pen_down = true;
    }
    if (!path.empty())
      fmt::format_to(std::back_inserter(inside_), R"(<path d="{}" stroke="{}" class="line"/>)" "\n", path, color);
    if (!label.empty()) add_legend(label, color);
  }

  void points(const std::vector<double>& x, const std::vector<double>& y, std::string_view color,
              std::string_view label = {}) {
    std::string path;
    for (std::size_t i = 0; i < x.size(); ++i)
      if (std::isfinite(x[i]) && std::isfinite(y[i]))  // a line of length 0 with round ends is a dot
        fmt::format_to(std::back_inserter(path), "M{:.1f} {:.1f}h0", at_x(x[i]), at_y(y[i]));
    if (!path.empty())
      fmt::format_to(std::back_inserter(inside_), R"(<path d="{}" stroke="{}" class="dots"/>)" "\n", path, color);
    if (!label.empty()) add_legend(label, color);
  }

  /// A short stroke at the top edge for each x.
  void marks(const std::vector<double>& x, std::string_view color, std::string_view label = {}) {
    std::string path;
    for (const double v : x)
      if (v >= x_.low && v <= x_.high)
        fmt::format_to(std::back_inserter(path), "M{:.1f} {:.1f}v12", at_x(v), box_.y);
    if (!path.empty())
      fmt::format_to(std::back_inserter(inside_), R"(<path d="{}" stroke="{}" class="mark"/>)" "\n", path, color);
    if (!label.empty()) add_legend(label, color);
  }

  /// columns[i][j] fills the panel, i to the right and j upward; the colour goes from blue (-scale) over white (0) to
  /// red (scale). Values that are not finite are grey.
  void heat_map(const std::vector<std::vector<double>>& columns, double scale) {
    if (columns.empty() || columns.front().empty()) return;
    constexpr std::size_t kMostRows = 512;  // beyond it neighbours fall on the same dots of a screen
    const std::size_t stride = (columns.front().size() + kMostRows - 1) / kMostRows;
    const std::size_t width = columns.size(), height = (columns.front().size() + stride - 1) / stride;
    std::vector<std::uint8_t> dots(width * height);
    for (std::size_t i = 0; i < width; ++i)
      for (std::size_t j = 0; j < height; ++j)
        dots[(height - 1 - j) * width + i] = color_index(columns[i][j * stride] / scale);
    image(box_, dots, width, height);
  }

  /// A strip to the right of the panel that explains the colours of heat_map.
  void color_scale(double scale, std::string_view label) {
    const Box strip{box_.x + box_.width + 16, box_.y, 14, box_.height};
    std::vector<std::uint8_t> dots(201);
    for (std::size_t i = 0; i < dots.size(); ++i) dots[i] = color_index(1.0 - static_cast<double>(i) / 100.0);
    image(strip, dots, 1, dots.size());
    under_ += frame(strip);
    if (!(scale > 0) || !std::isfinite(scale)) return;
    for (const double tick : nice_ticks(-scale, scale, 4)) {
      const double y = strip.y + strip.height * (0.5 - tick / (2 * scale));
      under_ += fmt::format(R"(<text x="{:.1f}" y="{:.1f}">{:g}</text>)" "\n", strip.x + 19, y + 4, tick);
    }
    const double x = strip.x + 76, y = strip.y + strip.height / 2;
    under_ += fmt::format(
        R"(<text x="{:.1f}" y="{:.1f}" class="middle" transform="rotate(-90 {:.1f} {:.1f})">{}</text>)" "\n", x, y, x,
        y, escape_xml(label));
  }

  std::string svg(int id) const {
    std::string out = under_;
    fmt::format_to(std::back_inserter(out),
                   R"(<clipPath id="c{}"><rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"/></clipPath>)" "\n"
                   R"(<g clip-path="url(#c{})">)" "\n{}</g>\n{}",
                   id, box_.x, box_.y, box_.width, box_.height, id, inside_, frame(box_));
    return out + over_;
  }

 private:
  double at_x(double v) const { return clamp(box_.x + box_.width * (v - x_.low) / (x_.high - x_.low)); }
  double at_y(double v) const {
    return clamp(box_.y + box_.height * (1 - (v - y_.low) / (y_.high - y_.low)));
  }
  // Far outside the picture all places look alike, and 300 digits do not help.
  static double clamp(double v) { return std::clamp(v, -1e5, 1e5); }

  static std::string frame(const Box& box) {
    return fmt::format(R"(<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" class="frame"/>)" "\n", box.x,
                       box.y, box.width, box.height);
  }

  static std::string tick_label(const Axis& axis, double v) {
    if (!axis.decades) return fmt::format("{:g}", v);
    return fmt::format(R"(10<tspan dy="-5" font-size="9">{:g}</tspan>)", v);
  }

  void draw_axes() {
    const double bottom = box_.y + box_.height;
    for (const double v : ticks(x_, static_cast<int>(box_.width / 90))) {
      const double x = at_x(v);
      fmt::format_to(std::back_inserter(under_),
                     R"(<path d="M{:.1f} {:.1f}V{:.1f}" class="grid"/><text x="{:.1f}" y="{:.1f}" class="middle">{}</text>)"
                     "\n",
                     x, box_.y, bottom + 4, x, bottom + 18, tick_label(x_, v));
    }
    for (const double v : ticks(y_, static_cast<int>(box_.height / 45))) {
      const double y = at_y(v);
      fmt::format_to(std::back_inserter(under_),
                     R"(<path d="M{:.1f} {:.1f}H{:.1f}" class="grid"/><text x="{:.1f}" y="{:.1f}" class="end">{}</text>)"
                     "\n",
                     box_.x - 4, y, box_.x + box_.width, box_.x - 8, y + 4, tick_label(y_, v));
    }
    const double x = box_.x - 62, y = box_.y + box_.height / 2;
    fmt::format_to(std::back_inserter(under_),
                   R"(<text x="{:.1f}" y="{:.1f}" class="middle">{}</text>)" "\n"
                   R"(<text x="{:.1f}" y="{:.1f}" class="middle" transform="rotate(-90 {:.1f} {:.1f})">{}</text>)" "\n",
                   box_.x + box_.width / 2, bottom + 38, escape_xml(x_.label), x, y, x, y, escape_xml(y_.label));
  }

  static std::vector<double> ticks(const Axis& axis, int count) {
    std::vector<double> all = nice_ticks(axis.low, axis.high, std::max(count, 2));
    if (axis.decades) std::erase_if(all, [](double v) { return v != std::round(v); });
    return all;
  }

  void add_legend(std::string_view label, std::string_view color) {
    const double y = box_.y + 24 + 17 * static_cast<double>(legend_++);
    const double right = box_.x + box_.width - 12;
    fmt::format_to(std::back_inserter(over_),
                   R"(<text x="{:.1f}" y="{:.1f}" class="end key" fill="{}">{}</text>)" "\n", right, y, color,
                   escape_xml(label));
  }

  static std::uint8_t color_index(double v) {
    if (!std::isfinite(v)) return 255;
    return static_cast<std::uint8_t>(std::lround(127 + 127 * std::clamp(v, -1.0, 1.0)));
  }

  void image(const Box& box, const std::vector<std::uint8_t>& dots, std::size_t width, std::size_t height) {
    static const std::array<std::array<std::uint8_t, 3>, 256> palette = [] {
      std::array<std::array<std::uint8_t, 3>, 256> colors{};
      const std::array<double, 3> white{250, 250, 250}, blue{33, 80, 160}, red{178, 24, 43};
      for (std::size_t i = 0; i < 255; ++i) {
        const double v = (static_cast<double>(i) - 127) / 127, strength = std::pow(std::abs(v), 0.7);
        for (std::size_t k = 0; k < 3; ++k)
          colors[i][k] = static_cast<std::uint8_t>(
              std::lround(white[k] + strength * ((v < 0 ? blue[k] : red[k]) - white[k])));
      }
      colors[255] = {160, 160, 160};
      return colors;
    }();
    fmt::format_to(std::back_inserter(under_),
                   R"(<image x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" preserveAspectRatio="none" )"
                   R"(style="image-rendering:pixelated" href="data:image/png;base64,{}"/>)" "\n",
                   box.x, box.y, box.width, box.height, base64(png(dots, width, height, palette)));
  }

  Box box_;
  Axis x_, y_;
  int legend_ = 0;
  std::string under_, inside_, over_;
};

class Figure {
 public:
  Figure(double width, double height, std::string_view title) : width_(width), height_(height), title_(title) {}

  void add(const Panel& panel) { body_ += panel.svg(panels_++); }

  std::string svg() const {
    return fmt::format(
        R"(<?xml version="1.0" encoding="UTF-8"?>
<svg xmlns="http://www.w3.org/2000/svg" width="{0:g}" height="{1:g}" viewBox="0 0 {0:g} {1:g}">
<title>{2}</title>
<style>
text {{ font: 12px sans-serif; fill: #222; }}
.title {{ font-size: 14px; font-weight: bold; }}
.head {{ font-size: 17px; font-weight: bold; }}
.middle {{ text-anchor: middle; }}
.end {{ text-anchor: end; }}
.key {{ fill: inherit; paint-order: stroke; stroke: #fff; stroke-width: 4px; }}
.grid {{ stroke: #ddd; fill: none; }}
.frame {{ stroke: #444; fill: none; }}
.line {{ stroke-width: 1.4; fill: none; stroke-linejoin: round; }}
.dots {{ stroke-width: 4; fill: none; stroke-linecap: round; }}
.mark {{ stroke-width: 1; fill: none; }}
</style>
<rect width="100%" height="100%" fill="#fff"/>
<text x="24" y="30" class="head">{2}</text>
{3}</svg>
)",
        width_, height_, escape_xml(title_), body_);
  }

  /// Throws BadInput when the file cannot be written.
  void save(const std::filesystem::path& path) const {
    std::ofstream out(path, std::ios::binary);
    out << svg();
    out.close();
    if (!out) throw BadInput(fmt::format("{}: cannot be written", path.string()));
  }

 private:
  double width_, height_;
  std::string title_, body_;
  int panels_ = 0;
};

}  // namespace example
