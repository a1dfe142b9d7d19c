#include "xml.hpp"

#include <expat.h>

#include <algorithm>
#include <exception>
#include <memory>
#include <new>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace krul::s3 {
namespace {

constexpr std::size_t deepest = 8, longest_text = 4096, longest_name = 64;

struct XmlReader {
  XML_Parser parser;
  const ElementEnd& ended;
  std::string path;
  std::vector<std::string> texts;
  std::exception_ptr thrown;
  bool refused = false;

  void refuse() {
    refused = true;
    XML_StopParser(parser, XML_FALSE);
  }
  // Nothing may be thrown through the parser, which is C.
  template <class Step>
  void guarded(Step&& step) noexcept {
    if (refused || thrown) return;
    try {
      step();
    } catch (...) {
      thrown = std::current_exception();
      XML_StopParser(parser, XML_FALSE);
    }
  }
};

XmlReader& reader_of(void* data) {
  return *static_cast<XmlReader*>(data);
}

void XMLCALL on_start(void* data, const XML_Char* name, const XML_Char**) {
  XmlReader& reader = reader_of(data);
  reader.guarded([&] {
    const std::string_view element = name;
    if (reader.texts.size() == deepest || element.size() > longest_name) return reader.refuse();
    if (!reader.path.empty()) reader.path += '/';
    reader.path += element;
    reader.texts.emplace_back();
  });
}

void XMLCALL on_text(void* data, const XML_Char* text, int length) {
  XmlReader& reader = reader_of(data);
  reader.guarded([&] {
    if (reader.texts.empty()) return;
    std::string& own = reader.texts.back();
    own.append(text, static_cast<std::size_t>(length));
    if (own.size() > longest_text) reader.refuse();
  });
}

void XMLCALL on_end(void* data, const XML_Char*) {
  XmlReader& reader = reader_of(data);
  reader.guarded([&] {
    std::string_view text = reader.texts.back();
    constexpr std::string_view blank = " \t\r\n";
    text.remove_prefix(std::min(text.find_first_not_of(blank), text.size()));
    text = text.substr(0, text.find_last_not_of(blank) + 1);
    reader.ended(reader.path, text);
    reader.texts.pop_back();
    const std::size_t slash = reader.path.rfind('/');
    reader.path.resize(slash == std::string::npos ? 0 : slash);
  });
}

void XMLCALL on_document_type(void* data, const XML_Char*, const XML_Char*, const XML_Char*, int) {
  reader_of(data).refuse();
}

}  // namespace

Status read_xml(std::span<const std::byte> document, const ElementEnd& ended) {
  const std::unique_ptr<std::remove_pointer_t<XML_Parser>, decltype(&XML_ParserFree)> parser(XML_ParserCreate("UTF-8"),
                                                                                             &XML_ParserFree);
  if (!parser) throw std::bad_alloc();
  XmlReader reader{parser.get(), ended, {}, {}, nullptr};
  XML_SetUserData(parser.get(), &reader);
  XML_SetElementHandler(parser.get(), on_start, on_end);
  XML_SetCharacterDataHandler(parser.get(), on_text);
  XML_SetStartDoctypeDeclHandler(parser.get(), on_document_type);
  constexpr std::size_t longest_document = 1U << 30;
  const bool read =
      document.size() <= longest_document && XML_Parse(parser.get(), reinterpret_cast<const char*>(document.data()),
                                                       static_cast<int>(document.size()), XML_TRUE) == XML_STATUS_OK;
  if (reader.thrown) std::rethrow_exception(reader.thrown);
  if (!read)
    return fail(ErrorCode::corrupt,
                "the S3 server's answer is no XML that S3 gives; check that the endpoint is an S3 server");
  return {};
}

}  // namespace krul::s3
