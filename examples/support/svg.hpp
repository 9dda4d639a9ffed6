// Plots as SVG text: panels with axes, ticks and labels; lines, points, marks along an axis, heat maps.
//
//   Figure figure(800, 400, "A swing");
//   Panel panel({.x = 70, .y = 40, .width = 700, .height = 300}, {"t (s)", 0, 10}, {"q (m)", -1, 1});
//   panel.line(t, q, kBlue, "mass 3");
//   figure.add(panel);
//   figure.save("swing.svg");
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
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

inline constexpr std::string_view kBlue = "#2166ac", kRed = "#c0392b", kGreen = "#2e7d32";

struct Axis {
  std::string label;
  double low = 0, high = 1;
  bool decades = false;  // values are log10 of what the ticks say
};

struct Box {
  double x = 0, y = 0, width = 100, height = 100;
};

namespace detail {

template <class... Args> void append(std::string& out, fmt::format_string<Args...> format, Args&&... args) {
  fmt::format_to(std::back_inserter(out), format, std::forward<Args>(args)...);
}

inline std::string escape_xml(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&': out += "&amp;"; break;
      case '<': out += "&lt;"; break;
      case '>': out += "&gt;"; break;
      case '\'': out += "&apos;"; break;
      default: out += c;
    }
  }
  return out;
}

/// A range that can be drawn, whatever the data were.
inline Axis usable(Axis axis) {
  if (!std::isfinite(axis.low) || !std::isfinite(axis.high) || !std::isfinite(axis.high - axis.low)) {
    axis.low = 0;
    axis.high = 1;
  } else if (!(axis.low < axis.high)) {
    const double room = axis.low == 0 ? 1 : std::abs(axis.low) / 2;
    axis.low -= room;
    axis.high = axis.low + 2 * room;
  }
  return axis;
}

/// Multiples of 1, 2 or 5 times a power of ten inside [low, high], about `count` of them.
inline std::vector<double> nice_ticks(double low, double high, int count) {
  const double raw = (high - low) / count;
  const double power = std::pow(10.0, std::floor(std::log10(raw)));
  const double rest = raw / power;
  const double step = power * (rest <= 1.5 ? 1 : rest <= 3.5 ? 2 : rest <= 7.5 ? 5 : 10);
  std::vector<double> ticks;
  const double first = std::ceil(low / step - 1e-9), last = std::floor(high / step + 1e-9);
  for (double i = first; i <= last && ticks.size() < 100; ++i) ticks.push_back(i * step + 0.0);  // no "-0"
  return ticks;
}

inline std::vector<double> axis_ticks(const Axis& axis, int count) {
  std::vector<double> ticks = nice_ticks(axis.low, axis.high, std::max(count, 2));
  if (axis.decades) std::erase_if(ticks, [](double v) { return v != std::round(v); });
  return ticks;
}

}  // namespace detail

class Panel {
 public:
  Panel(Box box, Axis x, Axis y, std::string_view title = {})
      : box_(box), x_(detail::usable(std::move(x))), y_(detail::usable(std::move(y))) {
    if (!title.empty()) text(below_, box.x, box.y - 10, "title", title);
    draw_axes();
  }

  /// Points that are not finite break the line.
  void line(const std::vector<double>& x, const std::vector<double>& y, std::string_view color,
            std::string_view label = {}) {
    std::string path;
    bool pen_down = false;
    for (std::size_t i = 0; i < x.size(); ++i) {
      const bool drawn = std::isfinite(x[i]) && std::isfinite(y[i]);
      if (drawn) detail::append(path, "{}{:.1f} {:.1f}", pen_down ? "L" : "M", at_x(x[i]), at_y(y[i]));
      pen_down = drawn;
    }
    stroke(path, "line", color, label);
  }

  void points(const std::vector<double>& x, const std::vector<double>& y, std::string_view color,
              std::string_view label = {}) {
    std::string path;
    for (std::size_t i = 0; i < x.size(); ++i)
      if (std::isfinite(x[i]) && std::isfinite(y[i]))  // a line of length 0 with round ends is a dot
        detail::append(path, "M{:.1f} {:.1f}h0", at_x(x[i]), at_y(y[i]));
    stroke(path, "dots", color, label);
  }

  /// A short stroke at the top edge for each x.
  void marks(const std::vector<double>& x, std::string_view color, std::string_view label = {}) {
    std::string path;
    for (const double v : x)
      if (v >= x_.low && v <= x_.high) detail::append(path, "M{:.1f} {:.1f}v12", at_x(v), box_.y);
    stroke(path, "mark", color, label);
  }

  /// columns[i][j] fills the panel, i to the right and j upward; the colour goes from blue (-scale) over
  /// white (0) to red (scale). Values that are not finite are grey.
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
    frame(below_, strip);
    if (!(scale > 0) || !std::isfinite(2 * scale)) return;
    for (const double tick : detail::nice_ticks(-scale, scale, 4)) {
      const double y = strip.y + strip.height * (0.5 - tick / (2 * scale));
      text(below_, strip.x + 19, y + 4, "tick", fmt::format("{:g}", tick));
    }
    upright_text(strip.x + 76, strip.y + strip.height / 2, label);
  }

  std::string svg(int id) const {
    std::string out = below_;
    detail::append(
        out,
        "<clipPath id='c{0}'><rect x='{1:.1f}' y='{2:.1f}' width='{3:.1f}' height='{4:.1f}'/></clipPath>\n"
        "<g clip-path='url(#c{0})'>\n{5}</g>\n",
        id, box_.x, box_.y, box_.width, box_.height, inside_);
    frame(out, box_);
    return out + above_;
  }

 private:
  double at_x(double v) const { return near(box_.x + box_.width * (v - x_.low) / (x_.high - x_.low)); }
  double at_y(double v) const { return near(box_.y + box_.height * (1 - (v - y_.low) / (y_.high - y_.low))); }
  // Far outside the picture all places look alike, and viewers do not take 300 digits.
  static double near(double v) { return std::clamp(v, -1e5, 1e5); }

  static void text(std::string& out, double x, double y, std::string_view kind, std::string_view words) {
    detail::append(out, "<text x='{:.1f}' y='{:.1f}' class='{}'>{}</text>\n", x, y, kind,
                   detail::escape_xml(words));
  }

  void upright_text(double x, double y, std::string_view words) {
    detail::append(below_,
                   "<text class='middle' transform='translate({:.1f} {:.1f}) rotate(-90)'>{}</text>\n", x, y,
                   detail::escape_xml(words));
  }

  static void frame(std::string& out, const Box& box) {
    detail::append(out, "<rect x='{:.1f}' y='{:.1f}' width='{:.1f}' height='{:.1f}' class='frame'/>\n", box.x,
                   box.y, box.width, box.height);
  }

  void stroke(const std::string& path, std::string_view kind, std::string_view color,
              std::string_view label) {
    if (!path.empty()) detail::append(inside_, "<path d='{}' stroke='{}' class='{}'/>\n", path, color, kind);
    if (label.empty()) return;
    const double y = box_.y + 28 + 17 * static_cast<double>(legend_lines_++);
    detail::append(above_, "<text x='{:.1f}' y='{:.1f}' class='end key' style='fill:{}'>{}</text>\n",
                   box_.x + box_.width - 12, y, color, detail::escape_xml(label));
  }

  static std::string tick_label(const Axis& axis, double v) {
    if (!axis.decades) return fmt::format("{:g}", v);
    return fmt::format("10<tspan dy='-5' font-size='9'>{:g}</tspan>", v);
  }

  void draw_axes() {
    const double bottom = box_.y + box_.height;
    for (const double v : detail::axis_ticks(x_, static_cast<int>(box_.width / 90))) {
      const double x = at_x(v);
      detail::append(below_, "<path d='M{0:.1f} {1:.1f}V{2:.1f}' class='grid'/>\n", x, box_.y, bottom + 4);
      detail::append(below_, "<text x='{:.1f}' y='{:.1f}' class='middle'>{}</text>\n", x, bottom + 18,
                     tick_label(x_, v));
    }
    for (const double v : detail::axis_ticks(y_, static_cast<int>(box_.height / 45))) {
      const double y = at_y(v);
      detail::append(below_, "<path d='M{0:.1f} {1:.1f}H{2:.1f}' class='grid'/>\n", box_.x - 4, y,
                     box_.x + box_.width);
      detail::append(below_, "<text x='{:.1f}' y='{:.1f}' class='end'>{}</text>\n", box_.x - 8, y + 4,
                     tick_label(y_, v));
    }
    text(below_, box_.x + box_.width / 2, bottom + 38, "middle", x_.label);
    upright_text(box_.x - 62, box_.y + box_.height / 2, y_.label);
  }

  static std::uint8_t color_index(double v) {
    if (!std::isfinite(v)) return 255;
    return static_cast<std::uint8_t>(std::lround(127 + 127 * std::clamp(v, -1.0, 1.0)));
  }

  void image(const Box& box, const std::vector<std::uint8_t>& dots, std::size_t width, std::size_t height) {
    static const Palette palette = [] {
      Palette colors{};
      const std::array<double, 3> white{250, 250, 250}, blue{33, 80, 160}, red{178, 24, 43};
      for (std::size_t i = 0; i < 255; ++i) {
        const double v = (static_cast<double>(i) - 127) / 127;
        const double strength = std::pow(std::abs(v), 0.7);  // weak waves stay visible beside strong ones
        for (std::size_t c = 0; c < 3; ++c) {
          const double target = v < 0 ? blue[c] : red[c];
          colors[i][c] = static_cast<std::uint8_t>(std::lround(white[c] + strength * (target - white[c])));
        }
      }
      colors[255] = {160, 160, 160};
      return colors;
    }();
    detail::append(below_,
                   "<image x='{:.1f}' y='{:.1f}' width='{:.1f}' height='{:.1f}' preserveAspectRatio='none' "
                   "style='image-rendering:pixelated' href='data:image/png;base64,{}'/>\n",
                   box.x, box.y, box.width, box.height, base64(png(dots, width, height, palette)));
  }

  Box box_;
  Axis x_, y_;
  int legend_lines_ = 0;
  std::string below_, inside_, above_;
};

class Figure {
 public:
  Figure(double width, double height, std::string_view title)
      : width_(width), height_(height), title_(detail::escape_xml(title)) {}

  void add(const Panel& panel) { body_ += panel.svg(panels_++); }

  std::string svg() const {
    std::string out;
    detail::append(
        out,
        "<?xml version='1.0' encoding='UTF-8'?>\n"
        "<svg xmlns='http://www.w3.org/2000/svg' width='{0:g}' height='{1:g}' viewBox='0 0 {0:g} {1:g}'>\n"
        "<title>{2}</title>\n<style>\n{3}</style>\n<rect width='100%' height='100%' fill='#fff'/>\n"
        "<text x='24' y='30' class='head'>{2}</text>\n{4}</svg>\n",
        width_, height_, title_, kStyle, body_);
    return out;
  }

  /// Throws BadInput when the file cannot be written.
  void save(const std::filesystem::path& path) const {
    std::ofstream out(path, std::ios::binary);
    out << svg();
    out.close();
    if (!out) throw BadInput(fmt::format("{}: cannot be written", path.string()));
  }

 private:
  static constexpr std::string_view kStyle =
      "text { font: 12px sans-serif; fill: #222; }\n"
      "text.title { font-size: 14px; font-weight: bold; }\n"
      "text.head { font-size: 17px; font-weight: bold; }\n"
      ".middle { text-anchor: middle; }\n"
      ".end { text-anchor: end; }\n"
      ".key { paint-order: stroke; stroke: #fff; stroke-width: 4px; }\n"
      ".grid { stroke: #ddd; fill: none; }\n"
      ".frame { stroke: #444; fill: none; }\n"
      ".line { stroke-width: 1.4; fill: none; stroke-linejoin: round; }\n"
      ".dots { stroke-width: 4; fill: none; stroke-linecap: round; }\n"
      ".mark { stroke-width: 1; fill: none; }\n";

  double width_, height_;
  std::string title_, body_;
  int panels_ = 0;
};

}  // namespace example
