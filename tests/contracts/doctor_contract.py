"""What a finding of the doctor promises, and a whole examination."""

from distbp.doctor import __main__ as doctor
from distbp.doctor.finding import OK, Report
from distbp.doctor.launch import Library


def agree(finding, status, *words):
    """Status and words; where all is well there is nothing to do, else there is."""
    text = str(finding)
    assert finding.status == status, text
    assert bool(finding.advice) == (status != OK), text
    for word in words:
        assert word in text


def examined(comm, *arguments, library=None):
    report = Report(speaks=False, as_json=False)
    library = library or Library(getattr(comm, "library", ""), "no mpi4py", "4")
    doctor.examine(comm, doctor.parse(["--quick", *arguments]), report, None, library)
    return report
