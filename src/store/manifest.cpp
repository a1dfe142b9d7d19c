#include "krul/store/manifest.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <limits>
#include <map>
#include <set>
#include <string_view>
#include <utility>

#include "krul/core/byte_io.hpp"
#include "krul/store/conversation_key.hpp"
#include "krul/store/conversation_store.hpp"

namespace krul {
namespace {

constexpr std::string_view magic = "KRULMAN\n";
constexpr std::size_t header_bytes = 20;  // magic, major, minor, length of the whole
constexpr std::size_t record_bytes = 36;
constexpr std::size_t most_plans = 256;
constexpr std::size_t most_coders = 128;
constexpr std::size_t smallest = header_bytes + sizeof(Checksum);

enum class Section : std::uint32_t {
  conversation = 1,
  save,
  identity,
  tokens,
  objects,
  plans,
  chunks,
  origin,
  statistics,
  codings,
  texts,
  row_attention,
  borrowed
};
constexpr std::uint32_t last_required = static_cast<std::uint32_t>(Section::origin);
constexpr std::uint32_t last_known = static_cast<std::uint32_t>(Section::borrowed);
constexpr std::size_t folder_length = 32;

// The texts of an identity, in the order in which they are stored.
constexpr std::array identity_fields = {&Identity::architecture, &Identity::weights, &Identity::tokenizer,
                                        &Identity::geometry,     &Identity::profile, &Identity::kernels,
                                        &Identity::processor,    &Identity::threads};
constexpr std::array plan_fields = {&SavePlanRecord::strategy, &SavePlanRecord::codec, &SavePlanRecord::settings};

class Writer : public ByteWriter {
 public:
  void text(std::string_view text) {
    number(static_cast<std::uint32_t>(text.size()));
    raw(text);
  }
  template <class Fill>
  void section(Section id, Fill&& fill) {
    number(static_cast<std::uint32_t>(id));
    const std::size_t length_at = bytes().size();
    number(std::uint64_t{0});
    fill();
    patch(length_at, bytes().size() - length_at - sizeof(std::uint64_t));
  }
  void patch(std::size_t at, std::uint64_t value) {
    for (std::size_t i = 0; i < sizeof value; ++i) bytes()[at + i] = static_cast<std::byte>(value >> (8 * i));
  }
};

class Reader : public ByteReader {
 public:
  using ByteReader::ByteReader;
  std::string text() { return string(take(number<std::uint32_t>())); }

  static std::string string(std::span<const std::byte> bytes) {
    return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }
};

/// What formats before 1.2 say of a plan in its texts.
void derive_from_texts(SavePlanRecord& plan) {
  if (plan.codec.starts_with(profile_prefix)) plan.profile = plan.codec.substr(profile_prefix.size());
  constexpr std::string_view measured = "measured step ";
  if (!plan.settings.starts_with(measured)) return;
  int code = 0;
  const char* const end = plan.settings.data() + plan.settings.size();
  const auto [rest, error] = std::from_chars(plan.settings.data() + measured.size(), end, code);
  if (error == std::errc{} && rest == end && code >= -127 && code <= 127)
    plan.measured_step = static_cast<std::int8_t>(code);
}

/// Whether formats before 1.2 would be read as saying something else of a plan.
bool needs_codings(const SavePlanRecord& plan) {
  SavePlanRecord derived{plan.strategy, plan.codec, plan.settings};
  derive_from_texts(derived);
  return derived != plan;
}

tl::unexpected<Error> corrupt(const std::string& what) {
  return fail(ErrorCode::corrupt,
              "the manifest is damaged: " + what + "; use its other copy or restore it from a backup");
}

tl::unexpected<Error> too_large(const std::string& what) {
  return fail(ErrorCode::too_large,
              "the manifest has " + what + " than is allowed; raise the limit or erase the conversation");
}

Status read_chunks(Reader& reader, Manifest& manifest) {
  // Both factors are capped (2^12 layers, 2^24 tokens), so that the product cannot overflow.
  const std::size_t count = manifest.layers * manifest.blocks();
  if (reader.rest().size() != count * record_bytes) return corrupt("its chunk table has a wrong length");
  manifest.chunks.resize(count);
  for (ChunkRecord& chunk : manifest.chunks) {
    chunk.object = reader.number<std::uint32_t>();
    chunk.offset = reader.number<std::uint64_t>();
    chunk.bytes = reader.number<std::uint32_t>();
    chunk.codec = reader.number<std::uint8_t>();
    chunk.plan = reader.number<std::uint8_t>();
    if (reader.number<std::uint16_t>() != 0) return corrupt("a chunk record has bits that mean nothing");
    const auto hash = reader.take(sizeof(Checksum));
    std::memcpy(chunk.hash.data(), hash.data(), hash.size());
  }
  return {};
}

/// All of a section that holds what was seen of attention.
Status read_seen(Reader& reader, const ManifestLimits& limits, const char* too_much, std::vector<std::byte>& to) {
  if (reader.rest().size() > limits.statistics) return too_large(too_much);
  const auto bytes = reader.take(reader.rest().size());
  to.assign(bytes.begin(), bytes.end());
  return {};
}

Status read_section(Section id, Reader& reader, Manifest& manifest, const ManifestLimits& limits) {
  switch (id) {
    case Section::conversation:
      manifest.conversation = Reader::string(reader.take(reader.rest().size()));
      break;
    case Section::save: {
      manifest.generation = reader.number<std::uint64_t>();
      const auto rows = reader.number<std::uint64_t>();
      manifest.layers = reader.number<std::uint32_t>();
      manifest.block = reader.number<std::uint32_t>();
      if (rows > limits.tokens) return too_large("more rows");
      if (manifest.layers > limits.layers) return too_large("more layers");
      if (manifest.block == 0) return corrupt("its blocks have no tokens");
      manifest.rows = static_cast<std::size_t>(rows);
      break;
    }
    case Section::identity:
      for (const auto field : identity_fields) manifest.identity.*field = reader.text();
      break;
    case Section::tokens: {
      const std::size_t count = reader.rest().size() / sizeof(std::uint32_t);
      if (count > limits.tokens) return too_large("more tokens");
      manifest.tokens.resize(count);
      for (Token& token : manifest.tokens) token = static_cast<Token>(reader.number<std::uint32_t>());
      break;
    }
    case Section::objects: {
      const auto count = reader.number<std::uint32_t>();
      if (count > limits.objects) return too_large("more objects");
      for (std::uint32_t i = 0; i < count && !reader.failed(); ++i) manifest.objects.push_back(reader.text());
      if (std::ranges::any_of(manifest.objects, is_borrowed)) return corrupt("an object's name is not a segment's");
      break;
    }
    case Section::plans: {
      const auto count = reader.number<std::uint32_t>();
      if (count > most_plans) return corrupt("it has more than 256 save plans");
      for (std::uint32_t i = 0; i < count && !reader.failed(); ++i)
        for (SavePlanRecord& plan = manifest.plans.emplace_back(); const auto field : plan_fields)
          plan.*field = reader.text();
      break;
    }
    case Section::chunks:
      if (const Status status = read_chunks(reader, manifest); !status) return status;
      break;
    case Section::origin:
      manifest.writer = reader.text();
      manifest.saved_unix_s = reader.number<std::uint64_t>();
      break;
    case Section::codings:
      for (SavePlanRecord& plan : manifest.plans) {
        plan.profile = reader.text();
        const auto has_step = reader.number<std::uint8_t>();
        const auto step = static_cast<std::int8_t>(reader.number<std::uint8_t>());
        if (has_step > 1 || (has_step == 0 && step != 0)) return corrupt("a plan's step is neither there nor missing");
        if (has_step == 1) plan.measured_step = step;
        const auto count = reader.number<std::uint32_t>();
        if (count > most_coders) return corrupt("a plan names more than 128 coders");
        for (std::uint32_t i = 0; i < count && !reader.failed(); ++i) plan.coders.push_back(reader.text());
      }
      break;
    case Section::statistics:
      if (auto status = read_seen(reader, limits, "more statistics", manifest.statistics); !status) return status;
      break;
    case Section::row_attention:
      if (auto status = read_seen(reader, limits, "more of the rows' attention", manifest.row_attention); !status)
        return status;
      break;
    case Section::texts:
      manifest.texts = Reader::string(reader.take(reader.rest().size()));
      break;
    case Section::borrowed:
      while (!reader.rest().empty() && !reader.failed()) {
        const auto object = reader.number<std::uint32_t>();
        const std::string folder = Reader::string(reader.take(folder_length));
        if (object >= manifest.objects.size()) return corrupt("it borrows an object that it does not name");
        manifest.objects[object] = folder + "/" + manifest.objects[object];
      }
      break;
  }
  if (!reader.finished())
    return corrupt("section " + std::to_string(static_cast<std::uint32_t>(id)) + " has a wrong length");
  return {};
}

/// Records of one block that begin at the same place are those of one chunk, so nothing in them may differ.
Status validate_shared_chunks(const Manifest& manifest) {
  std::map<std::pair<std::uint32_t, std::uint64_t>, const ChunkRecord*> seen;
  for (std::size_t block = 0; block < manifest.blocks(); ++block) {
    seen.clear();
    for (std::size_t layer = 0; layer < manifest.layers; ++layer) {
      const ChunkRecord& chunk = manifest.chunk(layer, block);
      if (!chunk.is_stored()) continue;
      const auto [other, is_first] = seen.try_emplace({chunk.object, chunk.offset}, &chunk);
      if (!is_first && *other->second != chunk) return corrupt("two layers disagree about a chunk they share");
    }
  }
  return {};
}

}  // namespace

Status validate(const Manifest& manifest, const ManifestLimits& limits) {
  if (manifest.conversation.empty() || manifest.conversation.size() > longest_conversation_id)
    return corrupt("its conversation id is empty or too long");
  if (manifest.tokens.size() > limits.tokens) return too_large("more tokens");
  if (manifest.layers > limits.layers) return too_large("more layers");
  if (manifest.objects.size() > limits.objects) return too_large("more objects");
  if (manifest.statistics.size() > limits.statistics) return too_large("more statistics");
  if (manifest.row_attention.size() > limits.statistics) return too_large("more of the rows' attention");
  if (manifest.plans.size() > most_plans) return corrupt("it has more than 256 save plans");
  if (manifest.layers == 0) return corrupt("it has no layers");
  if (manifest.block == 0) return corrupt("its blocks have no tokens");
  // A next save could not be told from this one, or would seem older.
  if (manifest.generation > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()))
    return corrupt("its generation is one that no number of saves reaches");
  if (manifest.rows > manifest.tokens.size()) return corrupt("it has more rows than tokens");
  if (std::any_of(manifest.tokens.begin(), manifest.tokens.end(), [](Token token) { return token < 0; }))
    return corrupt("it has a negative token");

  bool too_long = manifest.writer.size() > limits.text || manifest.texts.size() > limits.text;
  for (const auto field : identity_fields) too_long |= (manifest.identity.*field).size() > limits.text;
  for (const SavePlanRecord& plan : manifest.plans)
    for (const auto field : plan_fields) too_long |= (plan.*field).size() > limits.text;
  for (const SavePlanRecord& plan : manifest.plans) {
    too_long |= plan.profile.size() > limits.text;
    for (const std::string& coder : plan.coders) too_long |= coder.size() > limits.text;
    if (plan.coders.size() > most_coders) return corrupt("a plan names more than 128 coders");
  }
  if (too_long) return too_large("a longer text");

  std::set<std::string_view> names;
  for (const std::string& object : manifest.objects) {
    const std::string_view name = is_store_key(object) ? std::string_view(object).substr(folder_length + 1) : object;
    if (!is_object_name(name) || !name.starts_with("segment-")) return corrupt("an object's name is not a segment's");
    if (!names.insert(object).second) return corrupt("it names an object twice");
  }
  if (manifest.chunks.size() != manifest.layers * manifest.blocks())
    return corrupt("its chunk table has a wrong length");
  for (const ChunkRecord& chunk : manifest.chunks) {
    if (!chunk.is_stored()) {
      if (chunk != ChunkRecord{}) return corrupt("a chunk that is not stored has a place");
      continue;
    }
    if (chunk.bytes > limits.chunk) return corrupt("a chunk is longer than any can be");
    if (chunk.object >= manifest.objects.size()) return corrupt("a chunk lies in an object that it does not name");
    if (chunk.plan >= manifest.plans.size()) return corrupt("a chunk has a plan that it does not name");
    if (chunk.offset > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()) - chunk.bytes)
      return corrupt("a chunk lies beyond the end of any object");
  }
  return validate_shared_chunks(manifest);
}

std::vector<std::byte> serialize(const Manifest& manifest) {
  if (const Status status = validate(manifest); !status)
    throw PreconditionError("serialize: " + status.error().message);
  Writer writer;
  writer.bytes().reserve(4096 + manifest.tokens.size() * sizeof(Token) + manifest.chunks.size() * record_bytes);
  writer.raw(magic);
  writer.number(manifest_major);
  const bool has_codings = std::any_of(manifest.plans.begin(), manifest.plans.end(), needs_codings);
  // The oldest version that says it all.
  const bool borrows = std::ranges::any_of(manifest.objects, is_borrowed);
  const int minor = borrows                                  ? manifest_minor
                    : !manifest.row_attention.empty()        ? 3
                    : has_codings || !manifest.texts.empty() ? 2
                    : manifest.statistics.empty()            ? 0
                                                             : 1;
  writer.number(static_cast<std::uint16_t>(minor));
  const std::size_t length_at = writer.bytes().size();
  writer.number(std::uint64_t{0});

  writer.section(Section::conversation, [&] { writer.raw(manifest.conversation); });
  writer.section(Section::save, [&] {
    writer.number(manifest.generation);
    writer.number(std::uint64_t{manifest.rows});
    writer.number(static_cast<std::uint32_t>(manifest.layers));
    writer.number(manifest.block);
  });
  writer.section(Section::identity, [&] {
    for (const auto field : identity_fields) writer.text(manifest.identity.*field);
  });
  writer.section(Section::tokens, [&] {
    for (const Token token : manifest.tokens) writer.number(static_cast<std::uint32_t>(token));
  });
  writer.section(Section::objects, [&] {
    writer.number(static_cast<std::uint32_t>(manifest.objects.size()));
    for (const std::string& object : manifest.objects)
      writer.text(is_borrowed(object) ? std::string_view(object).substr(folder_length + 1) : object);
  });
  writer.section(Section::plans, [&] {
    writer.number(static_cast<std::uint32_t>(manifest.plans.size()));
    for (const SavePlanRecord& plan : manifest.plans)
      for (const auto field : plan_fields) writer.text(plan.*field);
  });
  writer.section(Section::chunks, [&] {
    for (const ChunkRecord& chunk : manifest.chunks) {
      writer.number(chunk.object);
      writer.number(chunk.offset);
      writer.number(chunk.bytes);
      writer.number(chunk.codec);
      writer.number(chunk.plan);
      writer.number(std::uint16_t{0});
      writer.raw(std::as_bytes(std::span(chunk.hash)));
    }
  });
  writer.section(Section::origin, [&] {
    writer.text(manifest.writer);
    writer.number(manifest.saved_unix_s);
  });
  if (!manifest.statistics.empty()) writer.section(Section::statistics, [&] { writer.raw(manifest.statistics); });
  if (has_codings)
    writer.section(Section::codings, [&] {
      for (const SavePlanRecord& plan : manifest.plans) {
        writer.text(plan.profile);
        writer.number(static_cast<std::uint8_t>(plan.measured_step.has_value()));
        writer.number(static_cast<std::uint8_t>(plan.measured_step.value_or(0)));
        writer.number(static_cast<std::uint32_t>(plan.coders.size()));
        for (const std::string& coder : plan.coders) writer.text(coder);
      }
    });
  if (!manifest.texts.empty()) writer.section(Section::texts, [&] { writer.raw(manifest.texts); });
  if (!manifest.row_attention.empty())
    writer.section(Section::row_attention, [&] { writer.raw(manifest.row_attention); });
  if (borrows)
    writer.section(Section::borrowed, [&] {
      for (std::size_t i = 0; i < manifest.objects.size(); ++i) {
        if (!is_borrowed(manifest.objects[i])) continue;
        writer.number(static_cast<std::uint32_t>(i));
        writer.raw(std::string_view(manifest.objects[i]).substr(0, folder_length));
      }
    });

  writer.patch(length_at, writer.bytes().size() + sizeof(Checksum));
  const Checksum hash = checksum(writer.bytes());
  writer.raw(std::as_bytes(std::span(hash)));
  return std::move(writer.bytes());
}

Result<Manifest> parse_manifest(std::span<const std::byte> bytes, const ManifestLimits& limits) {
  if (bytes.size() > limits.bytes) return too_large("more bytes");
  if (bytes.size() < smallest)
    return fail(ErrorCode::truncated, "the manifest is cut off; use its other copy or restore it from a backup");
  Reader reader(bytes.first(bytes.size() - sizeof(Checksum)));
  if (Reader::string(reader.take(magic.size())) != magic)
    return corrupt("it does not begin like one, or it is encrypted and the key was not given");
  const auto major = reader.number<std::uint16_t>();
  const auto minor = reader.number<std::uint16_t>();
  const auto length = reader.number<std::uint64_t>();
  if (length > bytes.size())
    return fail(ErrorCode::truncated, "the manifest is cut off; use its other copy or restore it from a backup");
  if (length < bytes.size()) return corrupt("something follows its end");
  Checksum hash;
  std::memcpy(hash.data(), bytes.data() + bytes.size() - hash.size(), hash.size());
  if (checksum(bytes.first(bytes.size() - hash.size())) != hash) return corrupt("its checksum does not fit");
  if (major != manifest_major)
    return fail(ErrorCode::unsupported_version, "the manifest has format " + std::to_string(major) + "." +
                                                    std::to_string(minor) + " and this krul reads " +
                                                    std::to_string(manifest_major) +
                                                    ".x; use the version of krul that wrote it");

  Manifest manifest;
  std::uint32_t expected = 1, before = 0;
  bool has_codings = false;
  while (!reader.rest().empty()) {
    const auto id = reader.number<std::uint32_t>();
    Reader section(reader.take(reader.number<std::uint64_t>()));
    if (reader.failed()) return corrupt("a section reaches beyond its end");
    if (id <= before) return corrupt("its sections are out of order");
    before = id;
    if (id > last_known) continue;  // of a newer minor version
    if (id <= last_required && id != expected++) return corrupt("a section is missing");
    has_codings = has_codings || id == static_cast<std::uint32_t>(Section::codings);
    if (const Status status = read_section(static_cast<Section>(id), section, manifest, limits); !status)
      return propagate(status);
  }
  if (expected != last_required + 1) return corrupt("a section is missing");
  if (!has_codings)
    for (SavePlanRecord& plan : manifest.plans) derive_from_texts(plan);
  if (const Status status = validate(manifest, limits); !status) return propagate(status);
  return manifest;
}

std::uint8_t enter_plan(Manifest& manifest, const SavePlanRecord& plan) {
  auto& plans = manifest.plans;
  const auto index = [&](auto found) { return static_cast<std::uint8_t>(found - plans.begin()); };
  if (const auto known = std::find(plans.begin(), plans.end(), plan); known != plans.end()) return index(known);
  if (plans.size() == most_plans) {
    std::array<bool, most_plans> used{};
    for (const ChunkRecord& chunk : manifest.chunks) used[chunk.plan] = used[chunk.plan] || chunk.is_stored();
    std::array<std::uint8_t, most_plans> moved{};
    std::vector<SavePlanRecord> kept;
    for (std::size_t i = 0; i < most_plans; ++i) {
      moved[i] = static_cast<std::uint8_t>(kept.size());
      if (used[i]) kept.push_back(std::move(plans[i]));
    }
    for (ChunkRecord& chunk : manifest.chunks)
      if (chunk.is_stored()) chunk.plan = moved[chunk.plan];
    plans = std::move(kept);
  }
  if (plans.size() == most_plans) {
    const auto similar = std::find_if(plans.begin(), plans.end(), [&](const auto& other) {
      return other.codec == plan.codec && other.profile == plan.profile && other.coders == plan.coders;
    });
    expects(similar != plans.end(), "enter_plan: too many plans are in use");
    return index(similar);
  }
  plans.push_back(plan);
  return index(plans.end() - 1);
}

void drop_unused_objects(Manifest& manifest) {
  std::vector<bool> used(manifest.objects.size(), false);
  for (const ChunkRecord& chunk : manifest.chunks) {
    if (!chunk.is_stored()) continue;
    expects(chunk.object < used.size(), "drop_unused_objects: a chunk lies in an object that is not named");
    used[chunk.object] = true;
  }
  std::vector<std::uint32_t> moved(manifest.objects.size(), 0);
  std::vector<std::string> objects;
  for (std::size_t i = 0; i < used.size(); ++i) {
    moved[i] = static_cast<std::uint32_t>(objects.size());
    if (used[i]) objects.push_back(std::move(manifest.objects[i]));
  }
  for (ChunkRecord& chunk : manifest.chunks)
    if (chunk.is_stored()) chunk.object = moved[chunk.object];
  manifest.objects = std::move(objects);
}

}  // namespace krul
